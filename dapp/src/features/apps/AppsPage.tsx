import { useInfiniteQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { Fault } from '~/components/asking';
import { Button, Empty, Loading, Page, Table, TableCard, Tag, TextField } from '~/components/parts';
import { Amount, Moment, shortHex } from '~/components/values';
import { ask, client } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { SECONDS_PER_HOUR } from '~/lib/money';
import { useManifest, type App } from './queries';

export function AppsPage() {
  const t = useT();
  const [text, setText] = useState('');
  const apps = useInfiniteQuery({
    queryKey: ['apps', text],
    queryFn: ({ pageParam }) => {
      const query = {
        limit: 50,
        ...(text.trim() === '' ? {} : { text: text.trim() }),
        ...(pageParam === undefined ? {} : { cursor: pageParam }),
      };
      return ask(client.GET('/v1/apps', { params: { query } }));
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    refetchInterval: 10_000,
  });
  const found = apps.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Page
      title={t('apps.title')}
      lead={t('apps.lead')}
      actions={
        <Link to="/apps/new" className="button button-main">
          {t('deploy.title')}
        </Link>
      }
    >
      <TableCard
        title={t('apps.all')}
        action={<TextField label={t('apps.search')} value={text} onValue={setText} />}
      >
        {apps.isError ? (
          <Fault fault={apps.error} onRetry={() => void apps.refetch()} />
        ) : apps.isPending ? (
          <div className="empty">
            <Loading />
          </div>
        ) : found.length === 0 ? (
          <Empty
            title={text === '' ? t('apps.none') : t('apps.noMatch')}
            action={
              text === '' ? (
                <Link to="/apps/new" className="button button-main">
                  {t('deploy.title')}
                </Link>
              ) : (
                <Button onClick={() => setText('')}>{t('market.clear')}</Button>
              )
            }
          >
            {text === '' ? t('apps.noneText') : undefined}
          </Empty>
        ) : (
          <>
            <AppTable apps={found} />
            {apps.hasNextPage ? (
              <div className="empty">
                <Button onClick={() => void apps.fetchNextPage()}>{t('more')}</Button>
              </div>
            ) : null}
          </>
        )}
      </TableCard>
    </Page>
  );
}

function AppTable({ apps }: { apps: readonly App[] }) {
  const t = useT();
  return (
    <Table
      caption={t('apps.caption')}
      rows={apps}
      rowKey={(app) => app.id}
      columns={[
        { key: 'app', head: t('apps.app'), cell: (app) => <AppLink app={app} /> },
        {
          key: 'call',
          head: t('market.perCall'),
          number: true,
          cell: (app) => <Part units={app.price?.fee_per_call} />,
        },
        {
          key: 'hour',
          head: t('apps.gpuHour'),
          number: true,
          cell: (app) => <Part units={app.price?.rate_per_gpu_second} times={SECONDS_PER_HOUR} />,
        },
        { key: 'state', head: t('state'), cell: (app) => <AppState app={app} /> },
        {
          key: 'publisher',
          head: t('apps.publisher'),
          cell: (app) => <span className="mono">{shortHex(app.publisher)}</span>,
        },
        { key: 'when', head: t('apps.published'), cell: (app) => <Moment ms={app.published_at * 1000} /> },
      ]}
    />
  );
}

function AppLink({ app }: { app: App }) {
  const manifest = useManifest(app.latest.manifest_digest).data;
  return (
    <Link to="/apps/$id" params={{ id: app.id }}>
      {manifest?.name ?? <span className="mono">{shortHex(app.id)}</span>}
    </Link>
  );
}

export function Part({ units, times = 1n }: { units: string | undefined; times?: bigint }) {
  const t = useT();
  return units === undefined ? <>{t('none')}</> : <Amount price units={BigInt(units) * times} />;
}

export function AppState({ app }: { app: App }) {
  const t = useT();
  if (app.price === null) return <Tag tone="bad">{t('apps.retired')}</Tag>;
  if (app.retired_at !== null) return <Tag tone="warn">{t('apps.retiring')}</Tag>;
  if (app.permanent) return <Tag tone="good">{t('apps.permanent')}</Tag>;
  if (app.discount_bps > 0)
    return <Tag tone="good">{t('apps.discount', { percent: app.discount_bps / 100 })}</Tag>;
  return <Tag tone="plain">{t('apps.open')}</Tag>;
}
