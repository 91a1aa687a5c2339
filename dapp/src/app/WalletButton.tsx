// Connecting a wallet, seeing as whom, logging in and out.

import { useState } from 'react';
import { Button, Dialog, Note, Tag } from '~/components/parts';
import { Hex, shortHex } from '~/components/values';
import { sentenceOf } from '~/lib/chain/faults';
import { useDeployment, useToken } from '~/lib/deployment';
import { useLanguage, useT } from '~/lib/i18n';
import { logOut } from '~/lib/login';
import { useSession } from '~/lib/session';
import type { AnnouncedWallet } from '~/lib/wallet/discovery';
import { walletStore } from '~/lib/wallet/store';
import { useWallet } from '~/lib/wallet/useWallet';
import { LogInButton, SwitchChainButton } from './gates';
import { Looks } from './shell';

export function WalletButton() {
  const t = useT();
  const [open, setOpen] = useState(false);
  const { address, chainId } = useWallet();
  const deployment = useDeployment().data;
  const wrongChain = address !== null && deployment !== undefined && chainId !== deployment.chainId;
  return (
    <>
      {wrongChain ? <Tag tone="warn">{t('chain.wrong')}</Tag> : null}
      <Button main={address === null} onClick={() => setOpen(true)}>
        {address === null ? t('connect') : <span className="mono">{shortHex(address)}</span>}
      </Button>
      <Dialog
        open={open}
        title={address === null ? t('connect.title') : t('account.title')}
        onClose={() => setOpen(false)}
      >
        {address === null ? (
          <WalletList onConnected={() => setOpen(false)} />
        ) : (
          <Account onLeave={() => setOpen(false)} />
        )}
        <Looks />
      </Dialog>
    </>
  );
}

export function ConnectButton() {
  const t = useT();
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button main onClick={() => setOpen(true)}>
        {t('connect')}
      </Button>
      <Dialog open={open} title={t('connect.title')} onClose={() => setOpen(false)}>
        <WalletList onConnected={() => setOpen(false)} />
      </Dialog>
    </>
  );
}

function WalletList({ onConnected }: { onConnected: () => void }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const { wallets, connecting } = useWallet();
  const [fault, setFault] = useState<unknown>(null);
  const connect = async (wallet: AnnouncedWallet) => {
    setFault(null);
    try {
      await walletStore.connect(wallet);
      onConnected();
    } catch (refusal) {
      setFault(refusal);
    }
  };
  if (wallets.length === 0) {
    return <Note title={t('connect.none')}>{t('connect.noneText')}</Note>;
  }
  return (
    <>
      <p className="soft">{t('connect.text')}</p>
      <ul className="wallet-list">
        {wallets.map((wallet) => (
          <li key={wallet.rdns}>
            <Button
              className="button-block"
              disabled={connecting !== null}
              onClick={() => void connect(wallet)}
            >
              {wallet.icon === null ? null : <img src={wallet.icon} alt="" />}
              {wallet.name}
              {connecting === wallet.rdns ? <span className="spinner" aria-hidden="true" /> : null}
            </Button>
          </li>
        ))}
      </ul>
      {fault === null ? null : <Note tone="bad">{sentenceOf(fault, { t, language, token })}</Note>}
    </>
  );
}

function Account({ onLeave }: { onLeave: () => void }) {
  const t = useT();
  const { address, chainId, connected } = useWallet();
  const deployment = useDeployment().data;
  const session = useSession();
  const rightChain = deployment === undefined || chainId === deployment.chainId;
  return (
    <div className="stack">
      <dl className="facts">
        <dt>{t('account.wallet')}</dt>
        <dd>{connected?.name}</dd>
        <dt>{t('account.address')}</dt>
        <dd>{address === null ? null : <Hex value={address} what={t('account.address')} />}</dd>
        <dt>{t('account.network')}</dt>
        <dd>
          {rightChain ? (
            <Tag tone="good">{deployment?.networkName}</Tag>
          ) : (
            <Tag tone="warn">{t('chain.wrong')}</Tag>
          )}
        </dd>
        <dt>{t('account.login')}</dt>
        <dd>
          <Tag tone={session === null ? 'plain' : 'good'}>
            {session === null ? t('login.out') : t('login.in')}
          </Tag>
        </dd>
      </dl>
      {rightChain ? null : <SwitchChainButton />}
      <div className="row">
        {session === null ? (
          rightChain && <LogInButton />
        ) : (
          <Button onClick={() => void logOut().catch(() => undefined)}>{t('logout')}</Button>
        )}
        <Button
          onClick={() => {
            walletStore.disconnect();
            onLeave();
          }}
        >
          {t('disconnect')}
        </Button>
      </div>
    </div>
  );
}
