// My calls of one app, newest first; those that the gateway made to keep it warm are marked as such.

import { useQuery } from '@tanstack/react-query';
import { Asked } from '~/components/asking';
import { Empty, Table, TableCard, Tag } from '~/components/parts';
import { Amount, Hex, Moment } from '~/components/values';
import { ask, client } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { useSession } from '~/lib/session';
import { shownMs } from '~/lib/time';
import { ApiProblem } from '~/lib/api';
import type { App } from './queries';

const SHOWN = 20;

export function Calls({ app }: { app: App }) {
  const t = useT();
  const session = useSession();
  const calls = useQuery({
    queryKey: ['calls', app.id, session?.address],
    queryFn: () => ask(client.GET('/v1/calls', { params: { query: { app: app.id, limit: SHOWN } } })),
    enabled: session !== null,
    refetchInterval: 5_000,
    retry: (count, fault) => !(fault instanceof ApiProblem) && count < 3,
  });
  if (session === null) return null;
  return (
    <TableCard title={t('calls.title')}>
      <Asked query={calls}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title={t('calls.none')}>{t('calls.noneText')}</Empty>
          ) : (
            <Table
              caption={t('calls.title')}
              rows={items}
              rowKey={(row) => row.call_id}
              columns={[
                { key: 'when', head: t('calls.when'), cell: (row) => <Moment ms={row.asked_at_ms} /> },
                {
                  key: 'state',
                  head: t('state'),
                  cell: (row) => (
                    <span className="row">
                      <Tag
                        tone={row.state === 'completed' ? 'good' : row.state === 'failed' ? 'bad' : 'busy'}
                      >
                        {t(`calls.state.${row.state}`)}
                      </Tag>
                      {row.warm ? <Tag tone="plain">{t('calls.warm')}</Tag> : null}
                    </span>
                  ),
                },
                { key: 'version', head: t('app.version'), number: true, cell: (row) => row.version },
                {
                  key: 'run',
                  head: t('receipt.time'),
                  number: true,
                  cell: (row) => (row.state === 'completed' ? shownMs(row.run_ms) : '–'),
                },
                {
                  key: 'charge',
                  head: t('receipt.total'),
                  number: true,
                  cell: (row) => <Amount units={BigInt(row.charge)} />,
                },
                {
                  key: 'provider',
                  head: t('market.provider'),
                  cell: (row) => (row.provider === '' ? t('none') : <Hex value={row.provider} />),
                },
                { key: 'id', head: t('play.callId'), cell: (row) => <Hex value={row.call_id} /> },
              ]}
            />
          )
        }
      </Asked>
    </TableCard>
  );
}
