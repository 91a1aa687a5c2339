// Cards with what their drivers say now, and what their provider asks for them.

import { Table } from '~/components/parts';
import { Amount } from '~/components/values';
import type { Schemas } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { SECONDS_PER_HOUR } from '~/lib/money';
import { Model } from './MarketPage';

export function CardTable({
  gpus,
  rates,
}: {
  gpus: readonly Schemas['GpuBody'][];
  rates: Readonly<Record<string, string>>;
}) {
  const t = useT();
  return (
    <Table
      caption={t('provider.cards')}
      rows={gpus}
      rowKey={(gpu) => gpu.gpu_id}
      columns={[
        {
          key: 'model',
          head: t('market.model'),
          cell: (gpu) => <Model gpuClass={gpu.gpu_class} model={gpu.model} simulated={gpu.simulated} />,
        },
        {
          key: 'memory',
          head: t('market.vram'),
          number: true,
          cell: (gpu) => `${Math.round(gpu.memory_mib / 1024).toString()} GiB`,
        },
        {
          key: 'load',
          head: t('provider.load'),
          number: true,
          cell: (gpu) => reading(gpu.utilization_percent, '%', t('none')),
        },
        {
          key: 'heat',
          head: t('provider.heat'),
          number: true,
          cell: (gpu) => reading(gpu.temperature_c, '°C', t('none')),
        },
        {
          key: 'power',
          head: t('provider.power'),
          number: true,
          cell: (gpu) =>
            reading(gpu.power_mw == null ? null : Math.round(gpu.power_mw / 1000), 'W', t('none')),
        },
        {
          key: 'price',
          head: t('market.perHour'),
          number: true,
          cell: (gpu) => <Amount price units={BigInt(rates[gpu.gpu_class] ?? '0') * SECONDS_PER_HOUR} />,
        },
      ]}
    />
  );
}

/** A reading that the driver cannot give is said to be none, never zero. */
function reading(value: number | null | undefined, unit: string, none: string): string {
  return value === null || value === undefined ? none : `${value.toString()} ${unit}`;
}
