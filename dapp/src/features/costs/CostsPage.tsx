import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { NeedsLogIn } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Bars } from '~/components/charts';
import { Limits } from '~/components/limits';
import { Button, Card, Choices, Empty, Figure, Page, Table, TableCard } from '~/components/parts';
import { Amount, Hex, shortHex } from '~/components/values';
import { ask, client, fetchRaw } from '~/lib/api';
import { useToken } from '~/lib/deployment';
import { useLanguage, useT } from '~/lib/i18n';
import { exact, shown } from '~/lib/money';
import { shownMs } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { addUp, periodsOf, sumBy, type Group } from './days';

const KINDS = ['call', 'task'] as const;
const COUNT = { hour: 24, day: 30 } as const;

export function CostsPage() {
  const t = useT();
  return (
    <Page title={t('costs.title')} lead={t('costs.lead')}>
      <NeedsLogIn why={t('costs.why')}>
        <Costs />
        <Limits />
      </NeedsLogIn>
    </Page>
  );
}

function Costs() {
  const { t, language } = useLanguage();
  const token = useToken();
  const { address } = useWallet();
  const [by, setBy] = useState<'hour' | 'day'>('day');
  const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const costs = useQuery({
    queryKey: ['costs', address, by],
    queryFn: async () => {
      const untilMs = Date.now() + 1;
      const periods = periodsOf(by, untilMs, COUNT[by]);
      const fromMs = periods[0]?.startMs ?? untilMs;
      const page = await summaries(by, timeZone, fromMs, untilMs, []);
      return { rows: addUp(periods, page.items), fromMs, untilMs };
    },
    refetchInterval: 15_000,
  });
  const nameOf = (ms: number) =>
    new Date(ms).toLocaleString(
      language === 'zh' ? 'zh-CN' : 'en-GB',
      by === 'hour' ? { hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short' },
    );
  return (
    <Asked query={costs}>
      {({ rows, fromMs, untilMs }) => {
        const spent = rows.filter((row) => row.calls > 0 || row.tasks > 0);
        const callCharge = rows.reduce((sum, row) => sum + row.callCharge, 0n);
        const taskCharge = rows.reduce((sum, row) => sum + row.taskCharge, 0n);
        return (
          <>
            <div className="row-between">
              <Choices
                label={t('costs.by')}
                value={by}
                options={[
                  { value: 'hour', label: t('costs.hours') },
                  { value: 'day', label: t('costs.days') },
                ]}
                onValue={setBy}
              />
              <CsvButton by={by} timeZone={timeZone} fromMs={fromMs} untilMs={untilMs} />
            </div>
            <dl className="figures">
              <Figure name={t('costs.together')}>
                <Amount units={callCharge + taskCharge} />
              </Figure>
              <Figure
                name={t('costs.calls')}
                note={t('costs.count', { count: rows.reduce((sum, row) => sum + row.calls, 0) })}
              >
                <Amount units={callCharge} />
              </Figure>
              <Figure
                name={t('costs.tasks')}
                note={t('costs.count', { count: rows.reduce((sum, row) => sum + row.tasks, 0) })}
              >
                <Amount units={taskCharge} />
              </Figure>
            </dl>
            {spent.length === 0 ? (
              <section className="card">
                <Empty
                  title={t('costs.none')}
                  action={
                    <Link to="/tasks/new" className="button button-main">
                      {t('task.new')}
                    </Link>
                  }
                >
                  {t('costs.noneText')}
                </Empty>
              </section>
            ) : (
              <>
                <Card title={t('costs.chart')}>
                  <Bars
                    label={t('costs.chart')}
                    points={rows.map((row) => {
                      const sum = row.callCharge + row.taskCharge;
                      return {
                        label: nameOf(row.startMs),
                        value: Number(exact(sum, token.decimals)),
                        title: `${nameOf(row.startMs)}: ${shown(sum, token.decimals)} ${token.symbol}`,
                      };
                    })}
                  />
                </Card>
                <TableCard title={t('costs.table')}>
                  <Table
                    caption={t('costs.table')}
                    rows={[...spent].reverse()}
                    rowKey={(row) => row.key}
                    columns={[
                      {
                        key: 'when',
                        head: by === 'hour' ? t('costs.hour') : t('costs.day'),
                        cell: (row) => nameOf(row.startMs),
                      },
                      { key: 'calls', head: t('costs.calls'), number: true, cell: (row) => row.calls },
                      {
                        key: 'callCharge',
                        head: t('costs.callCharge'),
                        number: true,
                        cell: (row) => <Amount units={row.callCharge} />,
                      },
                      { key: 'tasks', head: t('costs.tasks'), number: true, cell: (row) => row.tasks },
                      {
                        key: 'taskCharge',
                        head: t('costs.taskCharge'),
                        number: true,
                        cell: (row) => <Amount units={row.taskCharge} />,
                      },
                    ]}
                  />
                </TableCard>
                <Breakdown by={by} timeZone={timeZone} fromMs={fromMs} untilMs={untilMs} />
              </>
            )}
          </>
        );
      }}
    </Asked>
  );
}

type Range = { by: 'hour' | 'day'; timeZone: string; fromMs: number; untilMs: number };

function Breakdown({ by, timeZone, fromMs, untilMs }: Range) {
  const t = useT();
  const [group, setGroup] = useState<Group>('app');
  const grouped = useQuery({
    queryKey: ['costs-by', group, by, fromMs],
    queryFn: async () => sumBy((await summaries(by, timeZone, fromMs, untilMs, [group])).items, group),
  });
  const options: { value: Group; label: string }[] = [
    { value: 'app', label: t('apps.app') },
    { value: 'gpu', label: t('market.class') },
    { value: 'provider', label: t('market.provider') },
    { value: 'key', label: t('costs.key') },
  ];
  return (
    <TableCard
      title={t('costs.spentBy')}
      action={<Choices label={t('costs.group')} value={group} options={options} onValue={setGroup} />}
    >
      <Asked query={grouped}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title={t('costs.none')}>{t('costs.noneText')}</Empty>
          ) : (
            <Table
              caption={t('costs.spentBy')}
              rows={rows}
              rowKey={(row) => row.name}
              columns={[
                {
                  key: 'name',
                  head: options.find((one) => one.value === group)?.label,
                  cell: (row) => <GroupName group={group} name={row.name} />,
                },
                { key: 'calls', head: t('costs.calls'), number: true, cell: (row) => row.calls },
                { key: 'tasks', head: t('costs.tasks'), number: true, cell: (row) => row.tasks },
                { key: 'gpu', head: t('receipt.gpuTime'), number: true, cell: (row) => shownMs(row.gpuMs) },
                {
                  key: 'charge',
                  head: t('receipt.total'),
                  number: true,
                  cell: (row) => <Amount units={row.charge} />,
                },
              ]}
            />
          )
        }
      </Asked>
    </TableCard>
  );
}

function GroupName({ group, name }: { group: Group; name: string }) {
  const t = useT();
  if (name === '')
    return <>{group === 'key' ? t('costs.login') : group === 'app' ? t('costs.tasks') : t('none')}</>;
  if (group === 'app') {
    return (
      <Link to="/apps/$id" params={{ id: name }} className="mono">
        {shortHex(name)}
      </Link>
    );
  }
  return group === 'provider' ? <Hex value={name} /> : <>{name}</>;
}

function CsvButton({ by, timeZone, fromMs, untilMs }: Range) {
  const t = useT();
  const save = async () => {
    const query = new URLSearchParams({
      by,
      time_zone: timeZone,
      from_ms: fromMs.toString(),
      until_ms: untilMs.toString(),
      format: 'csv',
    });
    for (const kind of KINDS) query.append('kind', kind);
    for (const group of ['app', 'gpu', 'provider']) query.append('group', group);
    const file = await (await fetchRaw(`/v1/summaries?${query.toString()}`)).blob();
    const link = document.createElement('a');
    link.href = URL.createObjectURL(file);
    link.download = 'tallystick-costs.csv';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  return <Button onClick={() => void save()}>{t('costs.csv')}</Button>;
}

async function summaries(
  by: 'hour' | 'day',
  timeZone: string,
  fromMs: number,
  untilMs: number,
  group: Group[],
) {
  const query = { by, time_zone: timeZone, from_ms: fromMs, until_ms: untilMs, group, kind: [...KINDS] };
  const page = await ask(client.GET('/v1/summaries', { params: { query } }));
  if (typeof page === 'string') throw new Error('The backend answered no JSON.');
  return page;
}
