import { useQuery } from '@tanstack/react-query';
import { Link, useParams } from '@tanstack/react-router';
import { useState } from 'react';
import { NeedsLogIn } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Card, Choices, Empty, Figure, Note, Page, Table, TableCard, Tag } from '~/components/parts';
import { Amount, Copy, Hex, Moment, shortHex } from '~/components/values';
import { ask, client } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { SECONDS_PER_HOUR } from '~/lib/money';
import { shownMs, shownSeconds } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { AppState, Part } from './AppsPage';
import { Calls } from './Calls';
import { Owner } from './Owner';
import { Permanence } from './Permanence';
import { Playground } from './Playground';
import { isMine, useApp, useManifest, type App, type AppManifest } from './queries';
import { exampleInput, samples, type Sample } from './samples';
import { Starts } from './Starts';
import { Versions } from './Versions';

export function AppPage() {
  const t = useT();
  const { id } = useParams({ from: '/apps/$id' });
  const { address } = useWallet();
  const app = useApp(id);
  const manifest = useManifest(app.data?.latest.manifest_digest).data;
  return (
    <Page
      title={manifest?.name ?? t('app.title', { id: shortHex(id) })}
      lead={<Hex value={id} />}
      actions={
        app.data === undefined ? undefined : (
          <>
            <AppState app={app.data} />
            <Link to="/apps/new" search={{ from: id }} className="button">
              {isMine(app.data, address) ? t('owner.changeAct') : t('app.useAsTemplate')}
            </Link>
          </>
        )
      }
    >
      <Asked query={app}>{(found) => <AppView app={found} manifest={manifest ?? null} />}</Asked>
    </Page>
  );
}

function AppView({ app, manifest }: { app: App; manifest: AppManifest | null }) {
  const t = useT();
  return (
    <>
      <dl className="figures">
        <Figure name={t('app.perCall')} note={t('app.perCallNote')}>
          <Part units={app.price?.fee_per_call} />
        </Figure>
        <Figure name={t('app.perHour')} note={t('app.perHourNote')}>
          <Part units={app.price?.rate_per_gpu_second} times={SECONDS_PER_HOUR} />
        </Figure>
        <Figure name={t('app.flat')}>
          <Part units={app.price?.flat} />
        </Figure>
        <Figure name={t('app.idle')} note={t('app.idleNote')}>
          <Amount units={0n} />
        </Figure>
      </dl>
      {app.retired_at === null ? null : (
        <Note tone="warn" title={t('apps.retiring')}>
          {t('app.retiresAt')} <Moment ms={app.retired_at * 1000} />
        </Note>
      )}
      {app.price === null ? null : (
        <Card title={t('play.title')}>
          <NeedsLogIn why={t('play.why')}>
            <Playground app={app} manifest={manifest} />
          </NeedsLogIn>
        </Card>
      )}
      <Calls app={app} />
      <Load app={app} />
      <Starts app={app} />
      <div className="columns">
        <Endpoint app={app} manifest={manifest} />
        <Facts app={app} manifest={manifest} />
      </div>
      <Permanence app={app} />
      <Versions app={app} />
      <Owner app={app} />
    </>
  );
}

function Load({ app }: { app: App }) {
  const t = useT();
  const load = useQuery({
    queryKey: ['load', app.id],
    queryFn: () => ask(client.GET('/v1/apps/{app}/load', { params: { path: { app: app.id } } })),
    refetchInterval: 3_000,
  });
  return (
    <TableCard title={t('load.title')}>
      <Asked query={load}>
        {({ workers, calls }) => (
          <>
            {workers.length === 0 ? (
              <Empty title={t('load.none')}>{t('load.noneText')}</Empty>
            ) : (
              <Table
                caption={t('load.title')}
                rows={workers}
                rowKey={(row) => `${row.provider}-${row.version.toString()}`}
                columns={[
                  {
                    key: 'provider',
                    head: t('market.provider'),
                    cell: (row) => <Hex value={row.provider} />,
                  },
                  {
                    key: 'state',
                    head: t('state'),
                    cell: (row) => <LoadState state={row.state} />,
                  },
                  {
                    key: 'workers',
                    head: t('app.workers'),
                    number: true,
                    cell: (row) => `${row.workers.toString()} / ${row.max_workers.toString()}`,
                  },
                  {
                    key: 'running',
                    head: t('load.running'),
                    number: true,
                    cell: (row) => `${row.running.toString()} / ${row.places.toString()}`,
                  },
                  { key: 'queued', head: t('load.queued'), number: true, cell: (row) => row.queued },
                  {
                    key: 'cold',
                    head: t('load.cold'),
                    number: true,
                    cell: (row) => (row.cold_start_ms === 0 ? '–' : shownMs(row.cold_start_ms)),
                  },
                  {
                    key: 'problem',
                    head: t('load.problem'),
                    cell: (row) => (row.problem === '' ? '–' : <span className="small">{row.problem}</span>),
                  },
                ]}
              />
            )}
            <p className="small soft load-calls">
              {t('load.calls', {
                calls: calls.calls,
                minutes: Math.round(calls.window_s / 60),
                p50: calls.p50_ms === null ? '–' : shownMs(calls.p50_ms),
                p95: calls.p95_ms === null ? '–' : shownMs(calls.p95_ms),
              })}
            </p>
          </>
        )}
      </Asked>
    </TableCard>
  );
}

function LoadState({ state }: { state: string }) {
  const t = useT();
  if (!isLoadState(state)) return <Tag>{state}</Tag>;
  const tone = state === 'warm' ? 'good' : state === 'failed' ? 'bad' : state === 'cold' ? 'plain' : 'busy';
  return <Tag tone={tone}>{t(`load.state.${state}`)}</Tag>;
}

const LOAD_STATES = ['cold', 'pulling', 'starting', 'warm', 'failed'] as const;

function isLoadState(state: string): state is (typeof LOAD_STATES)[number] {
  return LOAD_STATES.some((one) => one === state);
}

function Endpoint({ app, manifest }: { app: App; manifest: AppManifest | null }) {
  const t = useT();
  const [sample, setSample] = useState<Sample>('curl');
  const code = samples(location.origin, app.id, exampleInput(manifest?.input ?? null))[sample];
  return (
    <Card title={t('app.endpoint')}>
      <p className="row">
        <span className="mono small">POST /v1/apps/{shortHex(app.id)}/calls</span>
        <Copy text={`${location.origin}/v1/apps/${app.id}/calls`} what={t('app.endpoint')} />
      </p>
      <Choices
        label={t('app.language')}
        value={sample}
        options={[
          { value: 'curl', label: 'curl' },
          { value: 'python', label: 'Python' },
          { value: 'typescript', label: 'TypeScript' },
        ]}
        onValue={setSample}
      />
      <pre className="code" tabIndex={0}>
        {code}
      </pre>
      <div className="row">
        <Copy text={code} what={t('app.sample')} />
        <span className="small soft">{t('app.keyHint')}</span>
      </div>
    </Card>
  );
}

function Facts({ app, manifest }: { app: App; manifest: AppManifest | null }) {
  const t = useT();
  return (
    <Card title={t('app.about')}>
      <dl className="facts">
        <dt>{t('apps.publisher')}</dt>
        <dd>
          <Hex value={app.publisher} />
        </dd>
        <dt>{t('app.royalty')}</dt>
        <dd className="number">{app.royalty_bps / 100} %</dd>
        {manifest === null ? null : (
          <>
            <dt>{t('task.gpus')}</dt>
            <dd>
              {manifest.resources.gpus === 0
                ? t('task.noGpu')
                : `${manifest.resources.gpus.toString()} × ${manifest.resources.gpu_class}`}
            </dd>
            <dt>{t('deploy.memory')}</dt>
            <dd>{manifest.resources.memory_mib} MiB</dd>
            <dt>{t('app.atOnce')}</dt>
            <dd>{manifest.concurrency}</dd>
            <dt>{t('app.workers')}</dt>
            <dd>
              {t('app.workersText', {
                min: manifest.scaling.min_workers,
                max: manifest.scaling.max_workers,
                idle: shownSeconds(manifest.scaling.cooldown_s),
              })}
            </dd>
            <dt>{t('app.longest')}</dt>
            <dd>{shownSeconds(manifest.timeout_s)}</dd>
          </>
        )}
        <dt>{t('app.manifest')}</dt>
        <dd>
          <Hex value={app.latest.manifest_digest} />
        </dd>
        <dt>{t('app.image')}</dt>
        <dd>
          <Hex value={app.latest.image_digest} />
        </dd>
      </dl>
    </Card>
  );
}
