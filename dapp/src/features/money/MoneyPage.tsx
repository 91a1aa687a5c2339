import { useState } from 'react';
import { isAddress, type Address } from 'viem';
import { NeedsWallet } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Button, Card, Figure, Note, Page, TextField } from '~/components/parts';
import { TransactionButton, type Prepare } from '~/components/transaction';
import { Amount } from '~/components/values';
import { checkAmount } from '~/lib/amounts';
import { signPermit, type Balances } from '~/lib/chain/permit';
import { approveExactly, deposit, depositWithPermit, withdraw } from '~/lib/chain/writes';
import { useDeployment, useToken } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { exact, shown } from '~/lib/money';
import { useWallet } from '~/lib/wallet/useWallet';
import { useBalances } from './balances';

export function MoneyPage() {
  const t = useT();
  return (
    <Page title={t('money.title')} lead={t('money.lead')}>
      <NeedsWallet why={t('money.why')}>
        <Money />
      </NeedsWallet>
    </Page>
  );
}

function Money() {
  const t = useT();
  const balances = useBalances();
  return (
    <Asked query={balances}>
      {(found) => (
        <>
          <dl className="figures">
            <Figure name={t('money.available')} note={t('money.availableNote')}>
              <Amount units={found.available} />
            </Figure>
            <Figure name={t('money.reserved')} note={t('money.reservedNote')}>
              <Amount units={found.locked} />
            </Figure>
            <Figure name={t('money.wallet')} note={t('money.walletNote')}>
              <Amount units={found.wallet} />
            </Figure>
          </dl>
          <div className="columns">
            <Deposit balances={found} />
            <Withdraw balances={found} />
          </div>
        </>
      )}
    </Asked>
  );
}

function Deposit({ balances }: { balances: Balances }) {
  const t = useT();
  const token = useToken();
  const { address } = useWallet();
  const deployment = useDeployment().data;
  const [text, setText] = useState('');
  const amount = checkAmount(text, token, balances.wallet, t, t('money.tooMuchWallet'));
  const prepare: Prepare = async (signer, tell) => {
    if (deployment === undefined || amount.units === null) throw new Error('no amount');
    tell({ name: 'signing' });
    const permit = await signPermit(deployment, signer, amount.units);
    if (permit !== null) return depositWithPermit(deployment, signer.address, amount.units, permit);
    return [approveExactly(deployment, amount.units), deposit(deployment, signer.address, amount.units)];
  };
  return (
    <Card title={t('money.deposit')}>
      <p className="soft">{t('money.depositText')}</p>
      <TextField
        label={t('money.amount')}
        unit={token.symbol}
        inputMode="decimal"
        autoComplete="off"
        placeholder="10"
        value={text}
        onValue={setText}
        fault={amount.fault}
        hint={t('money.inWallet', { amount: `${shown(balances.wallet, token.decimals)} ${token.symbol}` })}
      />
      <div className="row">
        {QUICK.map((quick) => (
          <Button key={quick} className="button-small" onClick={() => setText(quick)}>
            {quick}
          </Button>
        ))}
        <Button className="button-small" onClick={() => setText(exact(balances.wallet, token.decimals))}>
          {t('money.all')}
        </Button>
      </div>
      <TransactionButton
        key={address}
        prepare={prepare}
        disabled={amount.units === null}
        onMined={() => setText('')}
      >
        {t('money.deposit')}
      </TransactionButton>
    </Card>
  );
}

const QUICK = ['10', '50', '100'];

function Withdraw({ balances }: { balances: Balances }) {
  const t = useT();
  const token = useToken();
  const { address } = useWallet();
  const deployment = useDeployment().data;
  const [text, setText] = useState('');
  const [to, setTo] = useState('');
  const amount = checkAmount(text, token, balances.available, t, t('money.tooMuchAvailable'));
  const receiver = to.trim() === '' ? address : isAddress(to.trim()) ? (to.trim() as Address) : null;
  const prepare: Prepare = () => {
    if (deployment === undefined || amount.units === null || receiver === null) throw new Error('no amount');
    return Promise.resolve(withdraw(deployment, amount.units, receiver));
  };
  return (
    <Card title={t('money.withdraw')}>
      <p className="soft">{t('money.withdrawText')}</p>
      {balances.available === 0n ? <Note>{t('money.nothingToWithdraw')}</Note> : null}
      <TextField
        label={t('money.amount')}
        unit={token.symbol}
        inputMode="decimal"
        autoComplete="off"
        value={text}
        onValue={setText}
        fault={amount.fault}
        hint={t('money.isAvailable', {
          amount: `${shown(balances.available, token.decimals)} ${token.symbol}`,
        })}
      />
      <div className="row">
        <Button className="button-small" onClick={() => setText(exact(balances.available, token.decimals))}>
          {t('money.all')}
        </Button>
      </div>
      <TextField
        label={t('money.to')}
        autoComplete="off"
        spellCheck={false}
        placeholder={address ?? '0x…'}
        value={to}
        onValue={setTo}
        fault={receiver === null ? t('money.badAddress') : null}
        hint={t('money.toHint')}
      />
      <TransactionButton
        key={address}
        prepare={prepare}
        disabled={amount.units === null || receiver === null}
        onMined={() => setText('')}
      >
        {t('money.withdraw')}
      </TransactionButton>
    </Card>
  );
}
