import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Bars } from '~/components/charts';
import { Card, Choices, Table } from '~/components/parts';
import { Amount } from '~/components/values';
import { ask, client } from '~/lib/api';
import { useToken } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { exact, SECONDS_PER_HOUR, shown } from '~/lib/money';

const DAYS = 30;

/** What settled tasks paid, day by day; nothing where none was settled. */
export function History() {
  const t = useT();
  const token = useToken();
  const [picked, setPicked] = useState('');
  const found = useQuery({
    queryKey: ['price-history'],
    queryFn: () => ask(client.GET('/v1/market/prices/history', { params: { query: { days: DAYS } } })),
    refetchInterval: 60_000,
  });
  const items = found.data?.items ?? [];
  const classes = [...new Set(items.map((item) => item.gpu_class))].sort();
  const gpuClass = classes.includes(picked) ? picked : (classes[0] ?? '');
  const rows = items.filter((item) => item.gpu_class === gpuClass);
  if (rows.length === 0) return null;
  const hourly = (rate: string) => BigInt(rate) * SECONDS_PER_HOUR;
  return (
    <Card title={t('market.history')}>
      <p className="soft">{t('market.historyText', { days: DAYS })}</p>
      {classes.length > 1 ? (
        <Choices
          label={t('market.class')}
          value={gpuClass}
          onValue={setPicked}
          options={classes.map((name) => ({ value: name, label: name }))}
        />
      ) : null}
      <Bars
        label={t('market.history')}
        points={rows.map((row) => {
          const median = hourly(row.median_rate);
          return {
            label: row.day.slice(5),
            value: Number(exact(median, token.decimals)),
            title: `${row.day}: ${shown(median, token.decimals, 'nearest')} ${token.symbol}`,
          };
        })}
      />
      <Table
        caption={t('market.historyCaption')}
        rows={[...rows].reverse()}
        rowKey={(row) => row.day}
        columns={[
          { key: 'day', head: t('market.day'), cell: (row) => row.day },
          { key: 'tasks', head: t('market.settled'), number: true, cell: (row) => row.tasks },
          {
            key: 'min',
            head: t('market.min'),
            number: true,
            cell: (row) => <Amount price units={hourly(row.min_rate)} />,
          },
          {
            key: 'median',
            head: t('market.median'),
            number: true,
            cell: (row) => <Amount price units={hourly(row.median_rate)} />,
          },
          {
            key: 'max',
            head: t('market.max'),
            number: true,
            cell: (row) => <Amount price units={hourly(row.max_rate)} />,
          },
        ]}
      />
    </Card>
  );
}
