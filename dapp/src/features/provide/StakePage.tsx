import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { NeedsWallet } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Requests } from '~/components/requests';
import { Button, Card, Figure, Note, TextField } from '~/components/parts';
import { TransactionButton, type Prepare } from '~/components/transaction';
import { Amount, Moment } from '~/components/values';
import { checkAmount } from '~/lib/amounts';
import { signStakePermit } from '~/lib/chain/permit';
import { freeStake, type Standing } from '~/lib/chain/staking';
import {
  approveStakeExactly,
  registerGpus,
  requestUnbond,
  stake,
  stakeWithPermit,
  unjail,
  withdrawStake,
} from '~/lib/chain/writes';
import { useDeployment, type Deployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { exact, shown } from '~/lib/money';
import { ZERO_DIGEST } from '~/lib/protocol/hashing';
import { days } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { ProvideFrame } from './frame';
import { useStanding } from './standing';

export function StakePage() {
  const t = useT();
  return (
    <ProvideFrame title={t('stake.title')} lead={t('stake.lead')}>
      <NeedsWallet why={t('stake.why')}>
        <Stakes />
      </NeedsWallet>
    </ProvideFrame>
  );
}

function Stakes() {
  const t = useT();
  const deployment = useDeployment().data;
  const standing = useStanding();
  const { address } = useWallet();
  if (deployment === undefined || address === null) return null;
  const token = deployment.stakingToken;
  return (
    <Asked query={standing}>
      {(found) => (
        <>
          {found.jailedUntil === null ? null : (
            <Jail deployment={deployment} standing={found} until={found.jailedUntil} />
          )}
          <dl className="figures">
            <Figure name={t('stake.bonded')} note={t('provider.stakeNote')}>
              <Amount units={found.bonded} token={token} />
            </Figure>
            <Figure
              name={t('stake.backs')}
              note={t('stake.backsNote', { gpus: found.gpus, seats: found.seats })}
            >
              <Amount units={found.bonded - freeStake(deployment, found)} token={token} />
            </Figure>
            <Figure name={t('provider.unbonding')} note={t('stake.unbondingNote')}>
              <Amount units={found.unbonding} token={token} />
            </Figure>
            <Figure name={t('money.wallet')}>
              <Amount units={found.wallet} token={token} />
            </Figure>
          </dl>
          <div className="columns" key={address}>
            <More deployment={deployment} standing={found} />
            <Leave deployment={deployment} standing={found} />
          </div>
          <Requests
            title={t('stake.requests')}
            none={t('stake.noRequests')}
            noneText={t('stake.noRequestsText', { time: days(deployment.unbondingSeconds, t) })}
            requests={found.requests}
            now={found.now}
            withdraw={(request) => withdrawStake(deployment, request.id, address)}
          />
        </>
      )}
    </Asked>
  );
}

/** Everything that can be done about it, in the order in which it can be done. */
function Jail({
  deployment,
  standing,
  until,
}: {
  deployment: Deployment;
  standing: Standing;
  until: number;
}) {
  const t = useT();
  const over = standing.now >= until;
  const enough = standing.bonded >= deployment.stakeUnit;
  return (
    <Card title={t('jail.title')}>
      <Note tone="bad" title={t('jail.note')}>
        {t('jail.text')} <Link to="/explorer">{t('nav.explorer')}</Link>
      </Note>
      <ol className="plain-steps">
        <li>{enough ? t('jail.enough') : t('jail.stake')}</li>
        <li>
          {t('jail.until')} <Moment ms={until * 1000} />
        </li>
        <li>{t('jail.lift')}</li>
      </ol>
      <TransactionButton disabled={!over || !enough} prepare={() => Promise.resolve(unjail(deployment))}>
        {t('jail.act')}
      </TransactionButton>
    </Card>
  );
}

function More({ deployment, standing }: { deployment: Deployment; standing: Standing }) {
  const t = useT();
  const token = deployment.stakingToken;
  const [text, setText] = useState('');
  const amount = checkAmount(text, token, standing.wallet, t, t('money.tooMuchWallet'));
  const prepare: Prepare = async (signer, tell) => {
    if (amount.units === null) throw new Error('no amount');
    tell({ name: 'signing' });
    const permit = await signStakePermit(deployment, signer, amount.units);
    if (permit !== null) return stakeWithPermit(deployment, amount.units, permit);
    return [approveStakeExactly(deployment, amount.units), stake(deployment, amount.units)];
  };
  return (
    <Card title={t('stake.more')}>
      <p className="soft">{t('stake.moreText', { unit: shown(deployment.stakeUnit, token.decimals) })}</p>
      <TextField
        label={t('money.amount')}
        unit={token.symbol}
        inputMode="decimal"
        autoComplete="off"
        value={text}
        onValue={setText}
        fault={amount.fault}
        hint={t('money.inWallet', { amount: `${shown(standing.wallet, token.decimals)} ${token.symbol}` })}
      />
      <TransactionButton prepare={prepare} disabled={amount.units === null} onMined={() => setText('')}>
        {t('stake.moreAct')}
      </TransactionButton>
    </Card>
  );
}

function Leave({ deployment, standing }: { deployment: Deployment; standing: Standing }) {
  const t = useT();
  const token = deployment.stakingToken;
  const free = freeStake(deployment, standing);
  const [text, setText] = useState('');
  const amount = checkAmount(text, token, free, t, t('stake.tooMuch'));
  return (
    <Card title={t('stake.leave')}>
      <p className="soft">{t('stake.leaveText', { time: days(deployment.unbondingSeconds, t) })}</p>
      {standing.gpus > 0 ? (
        <>
          <Note>{t('stake.takeBackText', { gpus: standing.gpus })}</Note>
          <TransactionButton
            tone="bad"
            prepare={() => Promise.resolve(registerGpus(deployment, ZERO_DIGEST, 0))}
          >
            {t('stake.takeBack')}
          </TransactionButton>
        </>
      ) : null}
      <TextField
        label={t('money.amount')}
        unit={token.symbol}
        inputMode="decimal"
        autoComplete="off"
        value={text}
        onValue={setText}
        fault={amount.fault}
        hint={t('stake.free', { amount: `${shown(free, token.decimals)} ${token.symbol}` })}
      />
      <div className="row">
        <Button className="button-small" onClick={() => setText(exact(free, token.decimals))}>
          {t('money.all')}
        </Button>
      </div>
      <TransactionButton
        disabled={amount.units === null}
        prepare={() => Promise.resolve(requestUnbond(deployment, amount.units ?? 0n))}
        onMined={() => setText('')}
      >
        {t('stake.leaveAct')}
      </TransactionButton>
    </Card>
  );
}
