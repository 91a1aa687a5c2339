// What callers will pay, and when renting the same cards by the hour would cost them less. Every figure that goes
// in is shown and can be changed.

import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Card, Figure, Note, TextField } from '~/components/parts';
import { Amount } from '~/components/values';
import { ask, client, type Schemas } from '~/lib/api';
import { useToken } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { parseAmount, SECONDS_PER_HOUR, shown } from '~/lib/money';
import { compare } from './cost';
import type { AppDraft, Read } from './draft';

/** The market's middle price for a card of this class, of the model that most cards are. */
export function rentOf(prices: readonly Schemas['GpuPrices'][], gpuClass: string) {
  const [most] = prices
    .filter((row) => row.gpu_class === gpuClass && row.cards > 0)
    .sort((one, other) => other.cards - one.cards);
  return most === undefined
    ? null
    : { model: most.model, perHour: BigInt(most.median_rate) * SECONDS_PER_HOUR };
}

/** To be typed over, so without the digits that rounding a second's price down leaves. */
function readable(perHour: bigint, decimals: number): string {
  return shown(perHour, decimals, 'nearest').replaceAll(',', '');
}

export function CostPreview({ draft, read }: { draft: AppDraft; read: Read }) {
  const t = useT();
  const token = useToken();
  const [callsText, setCalls] = useState('1000');
  const [secondsText, setSeconds] = useState('2');
  const [rentText, setRent] = useState<string | null>(null);
  const prices = useQuery({
    queryKey: ['prices', 'market'],
    queryFn: () => ask(client.GET('/v1/market/prices')),
    refetchInterval: 15_000,
  });
  const { gpus } = read.manifest.resources;
  const market = gpus === 0 ? null : rentOf(prices.data?.items ?? [], draft.gpuClass);
  const rentShown = rentText ?? (market === null ? '' : readable(market.perHour, token.decimals));
  const rent = parseAmount(rentShown, token.decimals);
  const calls = /^\d{1,12}$/.test(callsText.trim()) ? BigInt(callsText.trim()) : null;
  const seconds = parseAmount(secondsText, 3);
  const found =
    read.priced && calls !== null && seconds.ok
      ? compare(
          read.price,
          {
            gpus,
            callMs: seconds.units,
            callsPerDay: calls,
            places: read.manifest.concurrency,
          },
          rent.ok ? rent.units : 0n,
        )
      : null;
  const unitName = gpus > 0 ? `${gpus.toString()} × ${draft.gpuClass}` : t('deploy.server');
  return (
    <Card title={t('deploy.preview')}>
      <p className="small soft">{t('deploy.previewText')}</p>
      <div className="fields">
        <TextField
          label={t('deploy.callsPerDay')}
          inputMode="numeric"
          value={callsText}
          fault={calls === null ? t('deploy.fault.number') : null}
          onValue={setCalls}
        />
        <TextField
          label={t('deploy.callSeconds')}
          unit="s"
          inputMode="decimal"
          value={secondsText}
          fault={seconds.ok ? null : t('amount.form')}
          onValue={setSeconds}
        />
        <TextField
          label={gpus > 0 ? t('deploy.rent') : t('deploy.rentServer')}
          unit={`${token.symbol}/h`}
          inputMode="decimal"
          value={rentShown}
          hint={
            rentText !== null
              ? t('deploy.rentOwn')
              : market === null
                ? gpus > 0
                  ? t('deploy.rentNoData', { name: draft.gpuClass })
                  : t('deploy.rentNoCpu')
                : t('deploy.rentMarket', { model: market.model })
          }
          fault={rentShown === '' || rent.ok ? null : t('amount.form')}
          onValue={setRent}
        />
      </div>
      {found === null ? (
        <p className="small soft">{t('deploy.previewOpen')}</p>
      ) : (
        <>
          <dl className="figures">
            <Figure name={t('deploy.aCall')}>
              <Amount price units={found.perCall} />
            </Figure>
            <Figure name={t('deploy.aDay')} note={t('deploy.aDayNote', { calls: callsText })}>
              <Amount units={found.perDay} />
            </Figure>
            <Figure name={t('deploy.rented')} note={t('deploy.rentedNote', { what: unitName })}>
              {rent.ok ? <Amount units={found.rentPerDay} /> : '–'}
            </Figure>
          </dl>
          {rent.ok ? (
            found.crossover === null ? (
              <Note>{t('deploy.crossFree')}</Note>
            ) : found.crossover > found.capacity ? (
              <Note tone="good" title={t('deploy.crossNever')}>
                {t('deploy.crossNeverText', {
                  crossover: found.crossover.toLocaleString('en'),
                  capacity: found.capacity.toLocaleString('en'),
                  what: unitName,
                })}
              </Note>
            ) : (
              <Note
                tone={calls !== null && calls >= found.crossover ? 'warn' : 'plain'}
                title={t('deploy.cross', { crossover: found.crossover.toLocaleString('en') })}
              >
                {t('deploy.crossText', {
                  capacity: found.capacity.toLocaleString('en'),
                  what: unitName,
                })}
              </Note>
            )
          ) : (
            <Note>{t('deploy.crossOpen')}</Note>
          )}
        </>
      )}
      <p className="small soft">{t('deploy.previewFoot')}</p>
    </Card>
  );
}
