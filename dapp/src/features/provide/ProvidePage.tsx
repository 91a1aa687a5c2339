// From nothing to a serving provider: what it brings and costs, one command, one line, one button.

import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { isAddressEqual, parseEther } from 'viem';
import { NeedsWallet } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Card, Choices, Note, Tag, TextAreaField, TextField } from '~/components/parts';
import { TransactionButton, type Prepare } from '~/components/transaction';
import { Amount, Copy, Hex } from '~/components/values';
import { providerStakingAbi } from '~/generated/abi';
import { signStakePermit } from '~/lib/chain/permit';
import { missingStake, type Standing } from '~/lib/chain/staking';
import {
  approveStakeExactly,
  bindOperatorKey,
  registerGpus,
  sendCoin,
  stake,
  stakeWithPermit,
  type Write,
} from '~/lib/chain/writes';
import { COIN, useDeployment, useStakingToken, useToken, type Deployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { parseAmount, ratePerGpuSecondDown, shown } from '~/lib/money';
import { gpuSetRoot } from '~/lib/protocol/hashing';
import { useSigner, useWallet } from '~/lib/wallet/useWallet';
import { CLASS_NAME, joinCommand } from './command';
import { Doctor } from './Doctor';
import { ProvideFrame } from './frame';
import { readJoinLine, type JoinLine } from './joinLine';
import { Risks } from './Risks';
import { useStanding } from './standing';

/** About five hundred proofs at one gwei. */
const GAS_MONEY = parseEther('0.05');
/** Below this the doctor asks for more. */
const LOW_GAS = parseEther('0.01');
const LOCAL_CHAIN = 31_337;

export function ProvidePage() {
  const t = useT();
  return (
    <ProvideFrame title={t('provide.title')} lead={t('provide.lead')}>
      <Risks />
      <NeedsWallet why={t('provide.why')}>
        <Steps />
      </NeedsWallet>
    </ProvideFrame>
  );
}

function Steps() {
  const standing = useStanding();
  const deployment = useDeployment().data;
  const { address } = useWallet();
  if (deployment === undefined || address === null) return null;
  return (
    <Asked query={standing}>
      {(found) => <Joining key={address} deployment={deployment} standing={found} />}
    </Asked>
  );
}

function Joining({ deployment, standing }: { deployment: Deployment; standing: Standing }) {
  const t = useT();
  const { address } = useWallet();
  const [text, setText] = useState('');
  const read = useQuery({
    queryKey: ['joinLine', text, address],
    queryFn: () => {
      if (address === null) throw new Error('no wallet');
      return readJoinLine(text, deployment, address);
    },
    enabled: address !== null,
    staleTime: Infinity,
  });
  const faults = {
    empty: null,
    form: t('join.badForm'),
    account: t('join.badAccount'),
    signature: t('join.badSignature'),
  };
  const line = read.data?.ok === true ? read.data.line : null;
  return (
    <>
      {standing.gpus > 0 ? (
        <Note tone="good" title={t('join.isProvider', { gpus: standing.gpus })}>
          {t('join.isProviderText')} <Link to="/provide/gpus">{t('provide.gpus')}</Link>
        </Note>
      ) : null}
      <div className="columns">
        <Card title={t('join.step1')}>
          <OfferForm />
        </Card>
        <div className="stack">
          <Card title={t('join.step2')}>
            <p className="soft">{t('join.step2Text')}</p>
            <TextAreaField
              label={t('join.line')}
              rows={4}
              spellCheck={false}
              autoComplete="off"
              placeholder="tallystick-provider:…"
              value={text}
              onValue={setText}
              fault={read.data?.ok === false ? faults[read.data.why] : null}
            />
            {line === null ? null : <LineFacts line={line} />}
          </Card>
          <Card title={t('join.step3')}>
            {line === null ? (
              <p className="soft">{t('join.step3Waits')}</p>
            ) : (
              <Register deployment={deployment} standing={standing} line={line} />
            )}
          </Card>
        </div>
      </div>
      <Doctor />
    </>
  );
}

function OfferForm() {
  const t = useT();
  const token = useToken();
  const deployment = useDeployment().data;
  const { address } = useWallet();
  const [gpuClass, setClass] = useState('gpu1');
  const [price, setPrice] = useState('0.5');
  const [cards, setCards] = useState<'nvml' | 'simulated'>('nvml');
  const [count, setCount] = useState('1');
  const [runtime, setRuntime] = useState<'docker' | 'process'>('docker');
  if (deployment === undefined || address === null) return null;
  const local = deployment.chainId === LOCAL_CHAIN;
  const perHour = parseAmount(price, token.decimals);
  const classIsGood = CLASS_NAME.test(gpuClass);
  const number = /^[1-9]\d?$/.test(count) ? Number(count) : null;
  const ready = perHour.ok && classIsGood && (cards === 'nvml' || number !== null);
  const command = ready
    ? joinCommand(location.origin, address, {
        gpuClass,
        rate: ratePerGpuSecondDown(perHour.units),
        cards,
        count: number ?? 0,
        runtime,
      })
    : null;
  return (
    <>
      <p className="soft">{t('join.step1Text')}</p>
      <div className="fields">
        <TextField
          label={t('market.class')}
          value={gpuClass}
          spellCheck={false}
          onValue={setClass}
          fault={classIsGood ? null : t('join.badClass')}
        />
        <TextField
          label={t('join.price')}
          unit={`${token.symbol}/h`}
          inputMode="decimal"
          value={price}
          onValue={setPrice}
          fault={perHour.ok || price === '' ? null : t('amount.form')}
        />
      </div>
      {local ? (
        <>
          <Choices
            label={t('join.cards')}
            value={cards}
            options={[
              { value: 'nvml', label: t('join.cardsReal') },
              { value: 'simulated', label: t('join.cardsSimulated') },
            ]}
            onValue={setCards}
          />
          {cards === 'simulated' ? (
            <TextField
              label={t('join.count')}
              inputMode="numeric"
              value={count}
              onValue={setCount}
              fault={number === null ? t('join.badCount') : null}
            />
          ) : null}
          <Choices
            label={t('provider.runtime')}
            value={runtime}
            options={[
              { value: 'docker', label: 'Docker' },
              { value: 'process', label: t('join.process') },
            ]}
            onValue={setRuntime}
          />
          {runtime === 'process' ? <Note tone="warn">{t('join.processText')}</Note> : null}
        </>
      ) : null}
      {command === null ? null : (
        <div className="stack-s">
          <div className="row-between">
            <span className="label">{t('join.command')}</span>
            <Copy text={command} what={t('join.command')} />
          </div>
          <pre className="code code-wrap" tabIndex={0} data-command="">
            {command}
          </pre>
          <p className="small soft">{t('join.install')}</p>
        </div>
      )}
    </>
  );
}

function LineFacts({ line }: { line: JoinLine }) {
  const t = useT();
  return (
    <dl className="facts">
      <dt>{t('provider.cards')}</dt>
      <dd className="stack-s">
        {line.gpus.length === 0
          ? t('join.noCards')
          : line.gpus.map((id) => (
              <span key={id} className="mono small break">
                {id}
              </span>
            ))}
      </dd>
      <dt>{t('join.key')}</dt>
      <dd className="stack-s">
        <Hex value={line.key} />
        <span>
          <Tag tone="good">{t('join.consents')}</Tag>
        </span>
      </dd>
    </dl>
  );
}

function Register(props: { deployment: Deployment; standing: Standing; line: JoinLine }) {
  const { deployment, standing, line } = props;
  const t = useT();
  const staking = useStakingToken();
  const signer = useSigner();
  const known = useQuery({
    queryKey: ['operatorKey', line.key, signer?.address],
    queryFn: async () => {
      if (signer === null) throw new Error('no wallet');
      const [[provider, retiredAt], coin] = await Promise.all([
        signer.reader.readContract({
          address: deployment.staking,
          abi: providerStakingAbi,
          functionName: 'operatorKey',
          args: [line.key],
        }),
        signer.reader.getBalance({ address: line.key }),
      ]);
      return { bound: isAddressEqual(provider, line.provider) && retiredAt === 0n, coin };
    },
    enabled: signer !== null,
    refetchInterval: 4_000,
  });
  const gpus = line.gpus.length;
  // Whoever serves without a card stakes for one.
  const missing = missingStake(deployment, standing, Math.max(1, gpus));
  const short = missing > standing.wallet;
  const bound = known.data?.bound === true;
  const same = bound && missing === 0n && standing.gpus === gpus;
  const prepare: Prepare = async (wallet, tell) => {
    const writes: Write[] = [];
    if (missing > 0n) {
      tell({ name: 'signing' });
      const permit = await signStakePermit(deployment, wallet, missing);
      if (permit === null) writes.push(approveStakeExactly(deployment, missing), stake(deployment, missing));
      else writes.push(stakeWithPermit(deployment, missing, permit));
    }
    if (!bound) writes.push(bindOperatorKey(deployment, line.key, line.consent));
    if (gpus > 0) writes.push(registerGpus(deployment, gpuSetRoot(line.gpus), gpus));
    return writes;
  };
  return (
    <>
      <dl className="facts">
        <dt>{t('join.needs', { gpus: Math.max(1, gpus) })}</dt>
        <dd>
          <Amount units={BigInt(Math.max(1, gpus)) * deployment.stakeUnit} token={staking} />
        </dd>
        <dt>{t('join.bonded')}</dt>
        <dd>
          <Amount units={standing.bonded} token={staking} />
        </dd>
        <dt>{t('join.missing')}</dt>
        <dd>
          <Amount units={missing} token={staking} />
        </dd>
        <dt>{t('money.wallet')}</dt>
        <dd>
          <Amount units={standing.wallet} token={staking} />
        </dd>
      </dl>
      {short ? <Note tone="warn">{t('join.short', { symbol: staking.symbol })}</Note> : null}
      {same ? (
        <Note tone="good" title={t('join.registered', { gpus })}>
          {t('join.registeredText')}
        </Note>
      ) : (
        <ol className="plain-steps small">
          {missing > 0n ? <li>{t('join.doStake')}</li> : null}
          {bound ? null : <li>{t('join.doBind')}</li>}
          {gpus > 0 ? <li>{t('join.doRegister', { gpus })}</li> : null}
        </ol>
      )}
      <TransactionButton prepare={prepare} disabled={short || known.data === undefined}>
        {same ? t('join.again') : missing > 0n ? t('join.act') : t('join.actNoStake')}
      </TransactionButton>
      <hr className="rule" />
      <div className="row-between">
        <div className="stack-s">
          <strong>{t('join.gas')}</strong>
          <span className="small soft">{t('join.gasText')}</span>
        </div>
        {known.data === undefined ? null : <Amount units={known.data.coin} token={COIN} />}
      </div>
      <TransactionButton
        tone={known.data !== undefined && known.data.coin < LOW_GAS ? 'main' : 'plain'}
        disabled={known.data === undefined || standing.coin < GAS_MONEY}
        prepare={() => Promise.resolve(sendCoin(line.key, GAS_MONEY))}
      >
        {t('join.gasAct', { amount: `${shown(GAS_MONEY, COIN.decimals)} ${COIN.symbol}` })}
      </TransactionButton>
    </>
  );
}
