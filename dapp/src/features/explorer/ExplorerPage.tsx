import { useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { isAddress } from 'viem';
import { Asked, Fault } from '~/components/asking';
import {
  Button,
  Card,
  Choices,
  Empty,
  Figure,
  Loading,
  Note,
  Page,
  Table,
  TableCard,
  Tag,
  TextField,
} from '~/components/parts';
import { Amount, Moment, shortHex, TransactionLink } from '~/components/values';
import { ask, client, fetchRaw, type Schemas } from '~/lib/api';
import { useDeployment } from '~/lib/deployment';
import { useT, type MessageKey, type Translate } from '~/lib/i18n';
import { follow } from '~/lib/sse';
import { EVENT_NAMES, KINDS, toneOfKind, type Kind } from './events';

type ChainEvent = Schemas['ExplorerEvent'];

export function ExplorerPage() {
  const t = useT();
  const totals = useQuery({
    queryKey: ['totals'],
    queryFn: () => ask(client.GET('/v1/market/totals')),
    refetchInterval: 10_000,
  });
  return (
    <Page title={t('explorer.title')} lead={t('explorer.lead')}>
      <Asked query={totals}>{(found) => <Totals totals={found} />}</Asked>
      <Search />
      <Events />
    </Page>
  );
}

function Totals({ totals }: { totals: Schemas['NetworkTotals'] }) {
  const t = useT();
  const stakingToken = useDeployment().data?.stakingToken;
  const staked = stakingToken === undefined ? {} : { token: stakingToken };
  return (
    <dl className="figures">
      <Figure name={t('explorer.escrowed')} note={t('explorer.escrowedNote')}>
        <Amount units={BigInt(totals.escrowed)} />
      </Figure>
      <Figure name={t('explorer.staked')} note={t('explorer.stakedNote')}>
        <Amount units={BigInt(totals.staked)} {...staked} />
      </Figure>
      <Figure name={t('explorer.slashed')}>
        <Amount units={BigInt(totals.slashed)} {...staked} />
      </Figure>
      <Figure name={t('explorer.settled')} note={<Amount units={BigInt(totals.task_charges)} />}>
        {totals.tasks_settled}
      </Figure>
      <Figure name={t('explorer.redeemed')} note={<Amount units={BigInt(totals.call_charges)} />}>
        {totals.redemptions}
      </Figure>
    </dl>
  );
}

function Search() {
  const t = useT();
  const navigate = useNavigate();
  const [text, setText] = useState('');
  const [none, setNone] = useState(false);
  const [fault, setFault] = useState<unknown>(null);
  const look = async () => {
    const q = text.trim();
    if (q === '') return;
    setNone(false);
    setFault(null);
    try {
      const { items } = await ask(client.GET('/v1/search', { params: { query: { q } } }));
      const [hit] = items;
      if (hit === undefined) setNone(true);
      else if (hit.kind === 'task') await navigate({ to: '/tasks/$id', params: { id: hit.id } });
      else if (hit.kind === 'app') await navigate({ to: '/apps/$id', params: { id: hit.id } });
      else if (hit.kind === 'provider')
        await navigate({ to: '/providers/$address', params: { address: hit.id } });
      else if (hit.kind === 'transaction')
        await navigate({ to: '/explorer/tx/$hash', params: { hash: hit.id } });
      else if (hit.kind === 'account') await navigate({ to: '/explorer', search: { address: hit.id } });
      else setNone(true);
    } catch (refusal) {
      setFault(refusal);
    }
  };
  return (
    <form
      className="card"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        void look();
      }}
    >
      <TextField
        label={t('explorer.search')}
        hint={t('explorer.searchHint')}
        value={text}
        spellCheck={false}
        onValue={setText}
      />
      <div>
        <Button type="submit">{t('explorer.look')}</Button>
      </div>
      {none ? <Note tone="warn">{t('explorer.notFound')}</Note> : null}
      {fault === null ? null : <Fault fault={fault} />}
    </form>
  );
}

function Events() {
  const t = useT();
  const navigate = useNavigate();
  const { address } = useSearch({ from: '/explorer' });
  const [kind, setKind] = useState<Kind | ''>('');
  const live = useLiveEvents();
  const events = useInfiniteQuery({
    queryKey: ['chain-events', kind, address],
    queryFn: ({ pageParam }) => {
      const query = {
        limit: 30,
        ...(kind === '' ? {} : { kind }),
        ...(address === undefined ? {} : { address }),
        ...(pageParam === undefined ? {} : { cursor: pageParam }),
      };
      return ask(client.GET('/v1/explorer/events', { params: { query } }));
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    // Polled all the same where the stream cannot be had.
    refetchInterval: live ? false : 5_000,
  });
  const rows = events.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <Choices
        label={t('explorer.kind')}
        value={kind}
        options={[
          { value: '', label: t('market.any') },
          ...KINDS.map((one) => ({ value: one, label: t(`kind.${one}`) })),
        ]}
        onValue={setKind}
      />
      {address === undefined ? null : (
        <Card>
          <div className="row-between">
            <span>
              {t('explorer.of')} <span className="mono">{shortHex(address)}</span>
            </span>
            <Button className="button-small" onClick={() => void navigate({ to: '/explorer', search: {} })}>
              {t('market.clear')}
            </Button>
          </div>
        </Card>
      )}
      <TableCard
        title={t('explorer.happened')}
        action={<Tag tone={live ? 'busy' : 'plain'}>{live ? t('log.live') : t('log.polling')}</Tag>}
      >
        {events.isError ? (
          <Fault fault={events.error} onRetry={() => void events.refetch()} />
        ) : events.isPending ? (
          <div className="empty">
            <Loading />
          </div>
        ) : rows.length === 0 ? (
          <Empty
            title={t('explorer.none')}
            action={
              kind === '' ? undefined : <Button onClick={() => setKind('')}>{t('market.clear')}</Button>
            }
          >
            {t('explorer.noneText')}
          </Empty>
        ) : (
          <>
            <EventTable rows={rows} />
            {events.hasNextPage ? (
              <div className="empty">
                <Button onClick={() => void events.fetchNextPage()}>{t('more')}</Button>
              </div>
            ) : null}
          </>
        )}
      </TableCard>
    </>
  );
}

/** Asks again for the list whenever the stream says that there is more; true while the stream is open. */
function useLiveEvents(): boolean {
  const queries = useQueryClient();
  const [live, setLive] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    void follow({
      signal: stop.signal,
      open: (lastId, signal) => {
        const headers = {
          Accept: 'text/event-stream',
          ...(lastId === '' ? {} : { 'Last-Event-ID': lastId }),
        };
        return fetchRaw('/v1/explorer/stream', { headers, signal });
      },
      onEvent: (event) => {
        if (event.event === 'event' || event.event === 'reset')
          void queries.invalidateQueries({ queryKey: ['chain-events'] });
      },
      poll: () => Promise.resolve(false),
      onMode: (mode) => setLive(mode === 'live'),
    });
    return () => stop.abort();
  }, [queries]);
  return live;
}

export function EventTable({ rows }: { rows: readonly ChainEvent[] }) {
  const t = useT();
  const stakingToken = useDeployment().data?.stakingToken;
  return (
    <Table
      caption={t('explorer.caption')}
      rows={rows}
      rowKey={(row) => row.id.toString()}
      columns={[
        {
          key: 'what',
          head: t('explorer.what'),
          cell: (row) => (
            <span className="row">
              <Tag tone={toneOfKind(row.kind)} dot={false}>
                {kindText(row.kind, t)}
              </Tag>
              {eventText(row.name, t)}
            </span>
          ),
        },
        { key: 'who', head: t('explorer.who'), cell: (row) => <Parties row={row} /> },
        {
          key: 'amount',
          head: t('money.amount'),
          number: true,
          cell: (row) =>
            row.amount === null ? (
              <span className="soft">–</span>
            ) : (
              <Amount
                units={BigInt(row.amount)}
                {...(row.token === 'stake' && stakingToken !== undefined ? { token: stakingToken } : {})}
              />
            ),
        },
        { key: 'about', head: t('explorer.about'), cell: (row) => <About row={row} /> },
        { key: 'when', head: t('explorer.when'), cell: (row) => <Moment ms={row.at * 1000} /> },
        { key: 'tx', head: t('tx.hash'), cell: (row) => <TransactionLink hash={row.tx} /> },
      ]}
    />
  );
}

function Parties({ row }: { row: ChainEvent }) {
  const parties = Object.entries(row.parties).filter(([, address]) => isAddress(address, { strict: false }));
  const [first] = parties;
  if (first === undefined) return <span className="soft">–</span>;
  return (
    <Link to="/explorer" search={{ address: first[1] }} className="mono">
      {shortHex(first[1])}
    </Link>
  );
}

function About({ row }: { row: ChainEvent }) {
  if (row.task_id !== null) {
    return (
      <Link to="/tasks/$id" params={{ id: row.task_id }} className="mono">
        {shortHex(row.task_id)}
      </Link>
    );
  }
  if (row.app_id !== null) {
    return (
      <Link to="/apps/$id" params={{ id: row.app_id }} className="mono">
        {shortHex(row.app_id)}
      </Link>
    );
  }
  return (
    <span className="soft">
      {row.channel_id === null ? '–' : <span className="mono">{shortHex(row.channel_id)}</span>}
    </span>
  );
}

function kindText(kind: string, t: Translate): string {
  return (KINDS as readonly string[]).includes(kind) ? t(`kind.${kind as Kind}`) : kind;
}

/** The contract's own word where the app has no better one. */
export function eventText(name: string, t: Translate): string {
  const known = (EVENT_NAMES as readonly string[]).includes(name);
  return known ? t(`event.${name}` as Extract<MessageKey, `event.${string}`>) : name;
}
