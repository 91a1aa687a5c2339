import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { NeedsWallet } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Card, Empty, Figure, Note, Table, TableCard, TextField } from '~/components/parts';
import { TransactionButton } from '~/components/transaction';
import { Amount, Hex, Moment, TransactionLink } from '~/components/values';
import { ask, client, type Schemas } from '~/lib/api';
import type { Standing } from '~/lib/chain/staking';
import { setCommission, shareFees, withdrawCredit, withdrawFees } from '~/lib/chain/writes';
import { COIN, useDeployment, type Deployment } from '~/lib/deployment';
import { useT, type MessageKey } from '~/lib/i18n';
import { days } from '~/lib/time';
import { useSigner, useWallet, type Signer } from '~/lib/wallet/useWallet';
import { ProvideFrame } from './frame';
import { NotYetAProvider, useMyProvider } from './GpusPage';
import { useStanding } from './standing';

export function EarningsPage() {
  const t = useT();
  return (
    <ProvideFrame title={t('earnings.title')} lead={t('earnings.lead')}>
      <NeedsWallet why={t('earnings.why')}>
        <Earnings />
      </NeedsWallet>
    </ProvideFrame>
  );
}

function Earnings() {
  const mine = useMyProvider();
  const standing = useStanding();
  const deployment = useDeployment().data;
  const signer = useSigner();
  if (deployment === undefined || signer === null) return null;
  return (
    <Asked query={mine}>
      {(found) =>
        found === null ? (
          <NotYetAProvider />
        ) : (
          <>
            <Sums summary={found} />
            <Asked query={standing}>
              {(now) => (
                <div className="columns">
                  <Pending deployment={deployment} signer={signer} standing={now} />
                  <Pool deployment={deployment} summary={found} standing={now} />
                </div>
              )}
            </Asked>
            <Lately />
          </>
        )
      }
    </Asked>
  );
}

/** Pay for work and yield of stake apart, as they are earned in different ways. */
function Sums({ summary }: { summary: Schemas['ProviderSummary'] }) {
  const t = useT();
  const { earned } = summary;
  return (
    <dl className="figures">
      <Figure name={t('earnings.tasks')} note={t('earnings.tasksNote', { count: earned.tasks_settled })}>
        <Amount units={BigInt(earned.tasks)} />
      </Figure>
      <Figure name={t('earnings.calls')} note={t('earnings.callsNote', { count: earned.redemptions })}>
        <Amount units={BigInt(earned.calls)} />
      </Figure>
      <Figure name={t('earnings.commission')} note={t('earnings.commissionNote')}>
        <Amount units={BigInt(earned.commission)} />
      </Figure>
      <Figure name={t('earnings.rewards')} note={t('earnings.rewardsNote')}>
        <Amount units={BigInt(earned.rewards)} />
      </Figure>
      <Figure name={t('earnings.withdrawn')}>
        <Amount units={BigInt(earned.withdrawn)} />
      </Figure>
    </dl>
  );
}

function Pending({
  deployment,
  signer,
  standing,
}: {
  deployment: Deployment;
  signer: Signer;
  standing: Standing;
}) {
  const t = useT();
  const { credit } = standing;
  const gas = useQuery({
    queryKey: ['gasOfWithdrawal', signer.address, credit.toString()],
    queryFn: async () => {
      const write = withdrawCredit(deployment, signer.address);
      const [gasUsed, price] = await Promise.all([
        signer.reader.estimateGas({ account: signer.address, to: write.to, data: write.data }),
        signer.reader.getGasPrice(),
      ]);
      return gasUsed * price;
    },
    enabled: credit > 0n,
    retry: false,
  });
  const fee = (credit * BigInt(deployment.protocolFeeBps)) / 10_000n;
  return (
    <Card title={t('earnings.pending')}>
      <p className="soft">{t('earnings.pendingText')}</p>
      <dl className="facts">
        <dt>{t('earnings.credit')}</dt>
        <dd>
          <Amount units={credit} />
        </dd>
        <dt>{t('earnings.fee', { percent: deployment.protocolFeeBps / 100 })}</dt>
        <dd>
          <Amount units={fee} />
        </dd>
        <dt>{t('earnings.youGet')}</dt>
        <dd>
          <Amount units={credit - fee} />
        </dd>
        <dt>{t('earnings.gas')}</dt>
        <dd>
          {gas.data === undefined ? (
            <span className="soft">–</span>
          ) : (
            <>
              ≈ <Amount units={gas.data} token={COIN} />
            </>
          )}
        </dd>
        <dt>{t('earnings.payout')}</dt>
        <dd>
          <Hex value={standing.payout} />
        </dd>
      </dl>
      {credit === 0n ? <Note>{t('earnings.nothing')}</Note> : null}
      <TransactionButton
        disabled={credit === 0n}
        prepare={() => Promise.resolve(withdrawCredit(deployment, signer.address))}
      >
        {t('earnings.withdraw')}
      </TransactionButton>
    </Card>
  );
}

function Pool({
  deployment,
  summary,
  standing,
}: {
  deployment: Deployment;
  summary: Schemas['ProviderSummary'];
  standing: Standing;
}) {
  const t = useT();
  const { address } = useWallet();
  const [text, setText] = useState('');
  const { commission } = standing;
  const percent = /^\d{1,3}(\.\d{1,2})?$/.test(text.trim()) ? Number(text.trim()) : null;
  const bps = percent === null || percent > 100 ? null : Math.round(percent * 100);
  if (address === null) return null;
  return (
    <Card title={t('pool.title')}>
      <p className="soft">{t('pool.text', { time: days(deployment.commissionNoticeSeconds, t) })}</p>
      <dl className="facts">
        <dt>{t('pool.delegated')}</dt>
        <dd>
          <Amount units={BigInt(summary.pool.delegated)} token={deployment.stakingToken} />{' '}
          <span className="soft">{t('pool.by', { count: summary.pool.delegators })}</span>
        </dd>
        <dt>{t('pool.commission')}</dt>
        <dd>
          {`${(commission.bps / 100).toString()} %`}
          {commission.nextBps !== commission.bps ? (
            <span className="soft">
              {' '}
              {t('pool.next', { percent: commission.nextBps / 100 })}{' '}
              <Moment ms={commission.effectiveAt * 1000} />
            </span>
          ) : null}
        </dd>
        <dt>{t('pool.earned')}</dt>
        <dd>
          <Amount units={standing.commissionEarned} />
        </dd>
        <dt>{t('pool.unshared')}</dt>
        <dd>
          <Amount units={standing.unsharedFees} />
        </dd>
      </dl>
      <div className="row">
        <TransactionButton
          tone="plain"
          disabled={standing.commissionEarned === 0n}
          prepare={() => Promise.resolve(withdrawFees(deployment, address))}
        >
          {t('pool.withdraw')}
        </TransactionButton>
        <TransactionButton
          tone="plain"
          disabled={standing.unsharedFees === 0n}
          prepare={() => Promise.resolve(shareFees(deployment, address))}
        >
          {t('pool.share')}
        </TransactionButton>
      </div>
      <TextField
        label={t('pool.new')}
        unit="%"
        inputMode="decimal"
        placeholder="10"
        value={text}
        onValue={setText}
        fault={text.trim() !== '' && bps === null ? t('pool.badPercent') : null}
      />
      <TransactionButton
        tone="plain"
        disabled={bps === null}
        prepare={() => Promise.resolve(setCommission(deployment, bps ?? 0))}
        onMined={() => setText('')}
      >
        {t('pool.set')}
      </TransactionButton>
    </Card>
  );
}

const PAYING: ReadonlySet<string> = new Set([
  'TaskSettled',
  'VoucherRedeemed',
  'CreditWithdrawn',
  'FeesWithdrawn',
]);

/** What was earned and withdrawn, each line with its transaction. */
function Lately() {
  const t = useT();
  const { address } = useWallet();
  const events = useQuery({
    queryKey: ['earnedLately', address],
    queryFn: async () => {
      if (address === null) throw new Error('no wallet');
      const page = await ask(
        client.GET('/v1/explorer/events', { params: { query: { address, limit: 100 } } }),
      );
      return page.items.filter((event) => PAYING.has(event.name)).slice(0, 20);
    },
    enabled: address !== null,
    refetchInterval: 5_000,
  });
  return (
    <TableCard title={t('earnings.lately')}>
      <Asked query={events}>
        {(found) =>
          found.length === 0 ? (
            <Empty title={t('earnings.none')}>{t('earnings.noneText')}</Empty>
          ) : (
            <Table
              caption={t('earnings.lately')}
              rows={found}
              rowKey={(event) => event.id.toString()}
              columns={[
                {
                  key: 'what',
                  head: t('explorer.what'),
                  cell: (event) => t(`event.${event.name}` as MessageKey & `event.TaskSettled`),
                },
                {
                  key: 'amount',
                  head: t('money.amount'),
                  number: true,
                  cell: (event) => (event.amount === null ? null : <Amount units={BigInt(event.amount)} />),
                },
                { key: 'when', head: t('explorer.when'), cell: (event) => <Moment ms={event.at * 1000} /> },
                { key: 'tx', head: t('tx.hash'), cell: (event) => <TransactionLink hash={event.tx} /> },
              ]}
            />
          )
        }
      </Asked>
    </TableCard>
  );
}
