import { useQuery } from '@tanstack/react-query';
import { Line } from '~/components/charts';
import { Card } from '~/components/parts';
import { ask, client } from '~/lib/api';
import { useT } from '~/lib/i18n';
import type { Task } from './queries';
import { hasReading, seriesOf, type Reading } from './readings';
import { OVER } from './state';

/** Charts of what the driver reads while the task runs; nothing is drawn that no card can read. */
export function Readings({ task }: { task: Task }) {
  const t = useT();
  const samples = useQuery({
    queryKey: ['samples', task.id, OVER.has(task.state)],
    queryFn: () => ask(client.GET('/v1/tasks/{task_id}/samples', { params: { path: { task_id: task.id } } })),
    refetchInterval: OVER.has(task.state) ? false : 2_000,
  });
  const items = samples.data?.items ?? [];
  const charts: { reading: Reading; name: string; unit: string; scale: number; most?: number }[] = [
    { reading: 'utilization_percent', name: t('readings.load'), unit: '%', scale: 1, most: 100 },
    { reading: 'memory_used_mib', name: t('readings.memory'), unit: 'MiB', scale: 1 },
    { reading: 'power_mw', name: t('readings.power'), unit: 'W', scale: 0.001 },
    { reading: 'temperature_c', name: t('readings.heat'), unit: '°C', scale: 1 },
  ];
  const drawn = charts
    .map((chart) => ({ ...chart, series: seriesOf(items, chart.reading) }))
    .filter((chart) => hasReading(chart.series));
  if (task.terms.gpus === 0 || items.length === 0) return null;
  return (
    <Card title={t('readings.title')}>
      {drawn.length === 0 ? (
        <p className="soft">{t('readings.none')}</p>
      ) : (
        <div className="columns">
          {drawn.map((chart) => {
            const last = chart.series.findLast((point) => point !== null);
            const now = last == null ? t('none') : `${(last.value * chart.scale).toFixed(1)} ${chart.unit}`;
            return (
              <figure key={chart.reading} className="stack-s">
                <figcaption className="row-between">
                  <strong>{chart.name}</strong>
                  <span className="number">{now}</span>
                </figcaption>
                <Line
                  points={chart.series}
                  label={t('readings.label', { name: chart.name, now })}
                  {...(chart.most === undefined ? {} : { most: chart.most })}
                />
              </figure>
            );
          })}
        </div>
      )}
    </Card>
  );
}
