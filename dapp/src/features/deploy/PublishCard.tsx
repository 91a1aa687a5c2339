// The manifest handed to the backend, then the one transaction that publishes it, and a second for a discount.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import type { Hex as HexText } from 'viem';
import { NeedsLogIn } from '~/app/gates';
import { Card, Loading, Note } from '~/components/parts';
import { TransactionButton, type Prepare } from '~/components/transaction';
import { Hex } from '~/components/values';
import { ask, client, fetchRaw, newIdempotencyKey } from '~/lib/api';
import { Said } from '~/lib/chain/faults';
import { setAppDiscount, type Write } from '~/lib/chain/writes';
import { useDeployment } from '~/lib/deployment';
import { useT, type MessageKey, type Translate } from '~/lib/i18n';
import { appIdOf, appSalt, manifestFile, versionOf, type FullAppManifest } from '~/lib/protocol/appManifest';
import { shownSeconds } from '~/lib/time';
import { useSigner, useWallet } from '~/lib/wallet/useWallet';
import type { App } from '~/features/apps/queries';
import type { FieldName, Read } from './draft';
import { planOf, readPublished, writeOf, type Plan } from './plan';

/** Time for two wallets' questions: a discount has to begin behind the block that announces it. */
const DISCOUNT_BEGINS_S = 600n;
const DAY_S = 86_400n;
const INDEX_ASKED_EVERY_MS = 500;
const INDEX_PATIENCE = 120;

export function PublishCard({ read, app, touched }: { read: Read; app: App | null; touched: boolean }) {
  const t = useT();
  return (
    <Card title={t('deploy.publish')}>
      {read.ok ? (
        <NeedsLogIn why={t('deploy.why')}>
          <Publish read={read} app={app} />
        </NeedsLogIn>
      ) : (
        <Note tone={touched ? 'warn' : 'plain'}>
          {t('deploy.incomplete', { fields: namesOf(read.faults, t) })}
        </Note>
      )}
    </Card>
  );
}

const LABELS: Partial<Record<FieldName, MessageKey>> = {
  name: 'task.name',
  image: 'task.image',
  entry: 'deploy.entry',
  warmUp: 'deploy.warmUp',
  socket: 'deploy.socket',
  schema: 'deploy.schema',
  gpus: 'new.count',
  gpuMemoryMib: 'deploy.gpuMemory',
  cpuMilli: 'deploy.cpu',
  memoryMib: 'deploy.memory',
  diskMib: 'deploy.disk',
  timeout: 'app.longest',
  concurrency: 'app.atOnce',
  minWorkers: 'deploy.minWorkers',
  maxWorkers: 'deploy.maxWorkers',
  queueDelayMs: 'deploy.queueDelay',
  cooldown: 'deploy.cooldown',
  flat: 'app.flat',
  call: 'app.perCall',
  gpuHour: 'app.perHour',
  discount: 'deploy.discount',
  discountDays: 'deploy.discountDays',
};

function namesOf(faults: Partial<Record<FieldName, unknown>>, t: Translate): string {
  const keys = Object.keys(faults) as FieldName[];
  // None of these sentences takes a value.
  return keys.map((key) => t((LABELS[key] ?? 'task.name') as 'task.name')).join(', ');
}

function Publish({ read, app }: { read: Extract<Read, { ok: true }>; app: App | null }) {
  const t = useT();
  const navigate = useNavigate();
  const deployment = useDeployment().data;
  const signer = useSigner();
  const { address } = useWallet();
  const [following, setFollowing] = useState(false);
  const { manifest, price } = read;
  const wanted = versionOf(manifest);
  const id =
    app !== null
      ? (app.id as HexText)
      : deployment === undefined || address === null
        ? null
        : appIdOf(deployment.chainId, deployment.registry, address, manifest.name);
  const published = useQuery({
    queryKey: ['published', id],
    queryFn: () => {
      if (deployment === undefined || signer === null || id === null) throw new Error('no wallet');
      return readPublished(signer.reader, deployment, id);
    },
    enabled: deployment !== undefined && signer !== null && id !== null,
    refetchInterval: 10_000,
  });
  if (deployment === undefined || address === null || id === null || published.data === undefined)
    return <Loading />;
  const plan = planOf(published.data, address, wanted, price);

  const prepare: Prepare = async (wallet) => {
    // Asked anew: another tab, or another machine, may have published meanwhile.
    const now = await readPublished(wallet.reader, deployment, id);
    const fresh = planOf(now, wallet.address, wanted, price);
    if (fresh.act !== plan.act) throw new Said((say) => say('deploy.fault.changed'));
    await handIn(manifest, wanted.manifestDigest);
    const writes: Write[] = [];
    const write = writeOf(deployment, fresh, { id, salt: appSalt(manifest.name) }, wanted, price);
    if (write !== null) writes.push(write);
    if (read.discountBps > 0) {
      const { timestamp } = await wallet.reader.getBlock();
      const start = timestamp + DISCOUNT_BEGINS_S;
      const end = start + BigInt(read.discountDays) * DAY_S;
      writes.push(setAppDiscount(deployment, id, read.discountBps, start, end));
    }
    return writes;
  };
  const follow = async () => {
    setFollowing(true);
    await untilIndexed(id, plan.act === 'refused' ? 1 : plan.version);
    void navigate({ to: '/apps/$id', params: { id } });
  };
  const nothing = plan.act === 'nothing' && read.discountBps === 0;
  return (
    <>
      <dl className="facts">
        <dt>{t('apps.app')}</dt>
        <dd>
          <Hex value={id} />
        </dd>
        <dt>{t('app.manifest')}</dt>
        <dd>
          <Hex value={wanted.manifestDigest} />
        </dd>
        <dt>{t('app.image')}</dt>
        <dd>
          <Hex value={wanted.imageDigest} />
        </dd>
      </dl>
      <Note tone={plan.act === 'refused' ? 'warn' : 'plain'}>
        {planText(plan, t, shownSeconds(deployment.noticeSeconds))}
        {published.data === null ? null : (
          <>
            {' '}
            <Link to="/apps/$id" params={{ id }}>
              {t('deploy.seeApp')}
            </Link>
          </>
        )}
      </Note>
      <ol className="stack-s small soft numbered">
        <li>{t('deploy.step1')}</li>
        <li>{t('deploy.step2')}</li>
        {read.discountBps > 0 ? <li>{t('deploy.step3')}</li> : null}
      </ol>
      <TransactionButton
        key={address}
        prepare={prepare}
        disabled={plan.act === 'refused' || nothing || following}
        onMined={() => void follow()}
      >
        {plan.act === 'addVersion'
          ? t('deploy.actVersion', { version: plan.version })
          : plan.act === 'setPrice'
            ? t('deploy.actPrice')
            : t('deploy.act')}
      </TransactionButton>
      {following ? <Loading /> : null}
    </>
  );
}

function planText(plan: Plan, t: Translate, notice: string): string {
  switch (plan.act) {
    case 'publish':
      return t('deploy.plan.publish');
    case 'addVersion':
      return t('deploy.plan.addVersion', { version: plan.version });
    case 'setPrice':
      return t('deploy.plan.setPrice', { notice });
    case 'nothing':
      return t('deploy.plan.nothing', { version: plan.version });
    case 'refused':
      return t(`deploy.plan.${plan.why}`);
  }
}

/** Before the chain: what the backend refuses is refused before anything was paid for. */
export async function handIn(manifest: FullAppManifest, digest: HexText): Promise<void> {
  const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': newIdempotencyKey() };
  await fetchRaw(`/v1/manifests/${digest}`, { method: 'PUT', body: manifestFile(manifest), headers });
}

/** The index follows the chain by a moment. */
async function untilIndexed(id: string, version: number): Promise<void> {
  for (let turn = 0; turn < INDEX_PATIENCE; turn += 1) {
    const found = await ask(client.GET('/v1/apps/{app}', { params: { path: { app: id } } })).catch(
      () => null,
    );
    if (found !== null && found.versions >= version) return;
    await new Promise((go) => setTimeout(go, INDEX_ASKED_EVERY_MS));
  }
}
