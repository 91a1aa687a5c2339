// Standing behind a provider: who there is, what it costs and pays, and the way out.

import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { getAddress, isAddressEqual, type Address } from 'viem';
import { NeedsWallet } from '~/app/gates';
import { Asked, Fault } from '~/components/asking';
import {
  Button,
  Card,
  Empty,
  Loading,
  Note,
  Page,
  Table,
  TableCard,
  Tag,
  TextField,
} from '~/components/parts';
import { Requests } from '~/components/requests';
import { TransactionButton, type Prepare } from '~/components/transaction';
import { Amount, Moment, shortHex } from '~/components/values';
import { checkAmount } from '~/lib/amounts';
import { ask, client, type Schemas } from '~/lib/api';
import { signStakePermit } from '~/lib/chain/permit';
import {
  readDelegator,
  readPool,
  readPosition,
  sharesDown,
  tokensDown,
  type Commission,
  type DelegatorFunds,
  type Position,
} from '~/lib/chain/staking';
import {
  approveStakeExactly,
  claimRewards,
  delegate,
  delegateWithPermit,
  requestUndelegate,
  withdrawDelegation,
} from '~/lib/chain/writes';
import { useDeployment, type Deployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { exact, shown } from '~/lib/money';
import { days } from '~/lib/time';
import { useSigner, useWallet, type Signer } from '~/lib/wallet/useWallet';

export function DelegatePage() {
  const t = useT();
  const deployment = useDeployment().data;
  const [chosen, setChosen] = useState<Address | null>(null);
  return (
    <Page title={t('delegate.title')} lead={t('delegate.lead')}>
      {deployment === undefined ? <Loading /> : <Risk deployment={deployment} />}
      <Providers chosen={chosen} onChosen={setChosen} />
      <NeedsWallet why={t('delegate.why')}>
        {deployment === undefined ? null : <Mine deployment={deployment} chosen={chosen} />}
      </NeedsWallet>
    </Page>
  );
}

function Risk({ deployment }: { deployment: Deployment }) {
  const t = useT();
  return (
    <div className="columns">
      <Card title={t('earn.title')}>
        <p>{t('delegate.earn')}</p>
      </Card>
      <Card title={t('risk.title')}>
        <p>
          {t('delegate.risk', {
            unbonding: days(deployment.unbondingSeconds, t),
            notice: days(deployment.commissionNoticeSeconds, t),
          })}
        </p>
      </Card>
    </div>
  );
}

type Summary = Schemas['ProviderSummary'];
const PAGE_SIZE = 20;

async function providersFrom(cursor: string | undefined) {
  const query = { limit: PAGE_SIZE, ...(cursor === undefined ? {} : { cursor }) };
  const page = await ask(client.GET('/v1/providers', { params: { query } }));
  const items = await Promise.all(
    page.items.map(({ address }) =>
      ask(client.GET('/v1/providers/{address}/summary', { params: { path: { address } } })),
    ),
  );
  return { items, next: page.next_cursor ?? undefined };
}

function Providers(props: { chosen: Address | null; onChosen: (provider: Address) => void }) {
  const t = useT();
  const token = useDeployment().data?.stakingToken;
  const staked = token === undefined ? {} : { token };
  const providers = useInfiniteQuery({
    queryKey: ['providers', 'summaries'],
    queryFn: ({ pageParam }) => providersFrom(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next,
    refetchInterval: 10_000,
  });
  const found = providers.data?.pages.flatMap((page) => page.items) ?? [];
  const isChosen = (one: Summary) =>
    props.chosen !== null && isAddressEqual(getAddress(one.provider.address), props.chosen);
  return (
    <TableCard title={t('delegate.providers')}>
      {providers.isError ? (
        <Fault fault={providers.error} onRetry={() => void providers.refetch()} />
      ) : providers.isPending ? (
        <div className="empty">
          <Loading />
        </div>
      ) : found.length === 0 ? (
        <Empty
          title={t('delegate.nobody')}
          action={
            <Link to="/provide" className="button button-main">
              {t('provide.noneAct')}
            </Link>
          }
        >
          {t('delegate.nobodyText')}
        </Empty>
      ) : (
        <>
          <Table
            caption={t('delegate.providers')}
            rows={found}
            rowKey={(one) => one.provider.address}
            columns={[
              {
                key: 'provider',
                head: t('market.provider'),
                cell: (one) => (
                  <Link to="/providers/$address" params={{ address: one.provider.address }} className="mono">
                    {shortHex(one.provider.address)}
                  </Link>
                ),
              },
              {
                key: 'state',
                head: t('state'),
                cell: (one) =>
                  one.jailed_until !== null ? (
                    <Tag tone="bad">{t('jail.tag')}</Tag>
                  ) : (
                    <Tag tone={one.provider.online ? 'good' : 'plain'}>
                      {one.provider.online ? t('state.online') : t('state.offline')}
                    </Tag>
                  ),
              },
              {
                key: 'own',
                head: t('delegate.own'),
                number: true,
                cell: (one) => <Amount units={BigInt(one.provider.stake)} {...staked} />,
              },
              {
                key: 'delegated',
                head: t('pool.delegated'),
                number: true,
                cell: (one) => <Amount units={BigInt(one.pool.delegated)} {...staked} />,
              },
              {
                key: 'commission',
                head: t('pool.commission'),
                number: true,
                cell: (one) => (
                  <CommissionText
                    commission={{
                      bps: one.pool.commission_bps,
                      nextBps: one.pool.next_commission_bps ?? one.pool.commission_bps,
                      effectiveAt: one.pool.next_commission_at ?? 0,
                    }}
                  />
                ),
              },
              {
                key: 'fees',
                head: t('delegate.fees'),
                number: true,
                cell: (one) => <Amount units={BigInt(one.pool.fees)} />,
              },
              {
                key: 'act',
                head: t('keys.act'),
                cell: (one) => (
                  <Button
                    className="button-small"
                    aria-pressed={isChosen(one)}
                    onClick={() => props.onChosen(getAddress(one.provider.address))}
                  >
                    {isChosen(one) ? t('delegate.chosen') : t('delegate.choose')}
                  </Button>
                ),
              },
            ]}
          />
          {providers.hasNextPage ? (
            <div className="empty">
              <Button onClick={() => void providers.fetchNextPage()}>{t('more')}</Button>
            </div>
          ) : null}
        </>
      )}
    </TableCard>
  );
}

/** A raise is announced before it holds: both stand here. */
function CommissionText({ commission }: { commission: Commission }) {
  const t = useT();
  return (
    <span className="stack-s">
      <span>{`${(commission.bps / 100).toString()} %`}</span>
      {commission.nextBps === commission.bps ? null : (
        <span className="small soft">
          {t('pool.next', { percent: commission.nextBps / 100 })}{' '}
          <Moment ms={commission.effectiveAt * 1000} />
        </span>
      )}
    </span>
  );
}

function Mine({ deployment, chosen }: { deployment: Deployment; chosen: Address | null }) {
  const t = useT();
  const signer = useSigner();
  const { address } = useWallet();
  const funds = useQuery({
    queryKey: ['delegator', address],
    queryFn: () => {
      if (signer === null) throw new Error('no wallet');
      return readDelegator(deployment, signer.reader, signer.address);
    },
    enabled: signer !== null,
    refetchInterval: 4_000,
  });
  const positions = useQuery({
    queryKey: ['positions', address],
    queryFn: () => {
      if (signer === null) throw new Error('no wallet');
      return positionsOf(deployment, signer);
    },
    enabled: signer !== null,
    refetchInterval: 4_000,
  });
  if (signer === null) return null;
  return (
    <Asked query={funds}>
      {(mine) => (
        <>
          <div className="columns" key={signer.address}>
            <PutIn deployment={deployment} funds={mine} chosen={chosen} />
            <Asked query={positions}>
              {(found) => <TakeOut deployment={deployment} signer={signer} positions={found} />}
            </Asked>
          </div>
          <Requests
            title={t('delegate.requests')}
            none={t('stake.noRequests')}
            noneText={t('stake.noRequestsText', { time: days(deployment.unbondingSeconds, t) })}
            requests={mine.requests}
            now={mine.now}
            withdraw={(request) => withdrawDelegation(deployment, request.id, signer.address)}
          />
        </>
      )}
    </Asked>
  );
}

/** Which providers: from the index. How much behind each: from the chain. */
async function positionsOf(deployment: Deployment, signer: Signer): Promise<Position[]> {
  const query = { delegator: signer.address, limit: 100 };
  const page = await ask(client.GET('/v1/delegations', { params: { query } }));
  const found = await Promise.all(
    page.items.map((one) =>
      readPosition(deployment, signer.reader, getAddress(one.provider), signer.address),
    ),
  );
  return found.filter((one) => one.amount > 0n || one.rewards > 0n);
}

function PutIn(props: { deployment: Deployment; funds: DelegatorFunds; chosen: Address | null }) {
  const { deployment, funds, chosen } = props;
  const t = useT();
  const token = deployment.stakingToken;
  const [text, setText] = useState('');
  const amount = checkAmount(text, token, funds.wallet, t, t('money.tooMuchWallet'));
  const tooLittle = amount.units !== null && amount.units < funds.least;
  const prepare: Prepare = async (signer, tell) => {
    if (amount.units === null || chosen === null) throw new Error('no amount');
    // A slash on the way changes what a share is worth: then the contract refuses.
    const least = sharesDown(amount.units, await readPool(deployment, signer.reader, chosen));
    tell({ name: 'signing' });
    const permit = await signStakePermit(deployment, signer, amount.units);
    if (permit !== null) return delegateWithPermit(deployment, chosen, amount.units, least, permit);
    return [approveStakeExactly(deployment, amount.units), delegate(deployment, chosen, amount.units, least)];
  };
  return (
    <Card title={t('delegate.act')}>
      {chosen === null ? (
        <Note>{t('delegate.chooseFirst')}</Note>
      ) : (
        <p>
          {t('delegate.behind')}{' '}
          <Link to="/providers/$address" params={{ address: chosen }} className="mono">
            {shortHex(chosen)}
          </Link>
        </p>
      )}
      <TextField
        label={t('money.amount')}
        unit={token.symbol}
        inputMode="decimal"
        autoComplete="off"
        value={text}
        onValue={setText}
        fault={
          tooLittle
            ? t('delegate.tooLittle', { amount: `${shown(funds.least, token.decimals)} ${token.symbol}` })
            : amount.fault
        }
        hint={t('money.inWallet', { amount: `${shown(funds.wallet, token.decimals)} ${token.symbol}` })}
      />
      <TransactionButton
        prepare={prepare}
        disabled={amount.units === null || tooLittle || chosen === null}
        onMined={() => setText('')}
      >
        {t('delegate.act')}
      </TransactionButton>
    </Card>
  );
}

function TakeOut(props: { deployment: Deployment; signer: Signer; positions: readonly Position[] }) {
  const { deployment, signer, positions } = props;
  const t = useT();
  return (
    <Card title={t('delegate.yours')}>
      {positions.length === 0 ? (
        <Empty title={t('delegate.none')}>{t('delegate.noneText')}</Empty>
      ) : (
        positions.map((one) => (
          <PositionCard key={one.provider} deployment={deployment} signer={signer} position={one} />
        ))
      )}
    </Card>
  );
}

function PositionCard(props: { deployment: Deployment; signer: Signer; position: Position }) {
  const { deployment, signer, position } = props;
  const t = useT();
  const token = deployment.stakingToken;
  const [text, setText] = useState('');
  const amount = checkAmount(text, token, position.amount, t, t('delegate.tooMuch'));
  const prepare: Prepare = async (wallet) => {
    if (amount.units === null) throw new Error('no amount');
    const pool = await readPool(deployment, wallet.reader, position.provider);
    const wanted = amount.units >= position.amount ? position.shares : sharesDown(amount.units, pool);
    const shares = wanted < position.shares ? wanted : position.shares;
    return requestUndelegate(deployment, position.provider, shares, tokensDown(shares, pool));
  };
  return (
    <section
      className="stack"
      aria-label={t('delegate.behindWhom', { provider: shortHex(position.provider) })}
    >
      <dl className="facts">
        <dt>{t('market.provider')}</dt>
        <dd>
          <Link to="/providers/$address" params={{ address: position.provider }} className="mono">
            {shortHex(position.provider)}
          </Link>{' '}
          {position.jailed ? <Tag tone="bad">{t('jail.tag')}</Tag> : null}
        </dd>
        <dt>{t('delegate.worth')}</dt>
        <dd>
          <Amount units={position.amount} token={token} />
        </dd>
        <dt>{t('delegate.rewards')}</dt>
        <dd>
          <Amount units={position.rewards} />
        </dd>
        <dt>{t('pool.commission')}</dt>
        <dd>
          <CommissionText commission={position.commission} />
        </dd>
      </dl>
      <TransactionButton
        tone="plain"
        disabled={position.rewards === 0n}
        prepare={() => Promise.resolve(claimRewards(deployment, position.provider, signer.address))}
      >
        {t('delegate.claim')}
      </TransactionButton>
      {position.amount === 0n ? null : (
        <>
          <TextField
            label={t('delegate.takeOut')}
            unit={token.symbol}
            inputMode="decimal"
            autoComplete="off"
            value={text}
            onValue={setText}
            fault={amount.fault}
            hint={t('delegate.takeOutHint', { time: days(deployment.unbondingSeconds, t) })}
          />
          <div className="row">
            <Button className="button-small" onClick={() => setText(exact(position.amount, token.decimals))}>
              {t('money.all')}
            </Button>
          </div>
          <TransactionButton
            tone="bad"
            prepare={prepare}
            disabled={amount.units === null}
            onMined={() => setText('')}
          >
            {t('delegate.takeOutAct')}
          </TransactionButton>
        </>
      )}
    </section>
  );
}
