// What stands between a person and a page, one step at a time: a wallet, the right chain, a log-in.

import { useState, type ReactNode } from 'react';
import { Button, Empty, Note } from '~/components/parts';
import { sentenceOf } from '~/lib/chain/faults';
import { useDeployment, useToken } from '~/lib/deployment';
import { useLanguage, useT } from '~/lib/i18n';
import { logIn } from '~/lib/login';
import { useSession } from '~/lib/session';
import { walletStore } from '~/lib/wallet/store';
import { useSigner, useWallet } from '~/lib/wallet/useWallet';
import { ConnectButton } from './WalletButton';

interface Gate {
  why: string;
  children: ReactNode;
  /** Where the whole page is behind the gate: puts the page's frame around what stands here instead. */
  frame?: (gate: ReactNode) => ReactNode;
}

export function NeedsWallet({ why, children, frame = (gate) => gate }: Gate) {
  const t = useT();
  const { address, chainId } = useWallet();
  const deployment = useDeployment().data;
  if (address === null) {
    return frame(
      <section className="card">
        <Empty title={t('gate.connect')} action={<ConnectButton />}>
          {why}
        </Empty>
      </section>,
    );
  }
  if (deployment !== undefined && chainId !== deployment.chainId) {
    return frame(
      <section className="card">
        <Empty title={t('gate.chain')} action={<SwitchChainButton />}>
          {t('gate.chainText', { name: deployment.networkName })}
        </Empty>
      </section>,
    );
  }
  return <>{children}</>;
}

export function NeedsLogIn({ why, children, frame = (gate) => gate }: Gate) {
  const t = useT();
  const session = useSession();
  return (
    <NeedsWallet why={why} frame={frame}>
      {session === null
        ? frame(
            <section className="card">
              <Empty title={t('gate.login')} action={<LogInButton />}>
                {why} {t('gate.loginText')}
              </Empty>
            </section>,
          )
        : children}
    </NeedsWallet>
  );
}

export function LogInButton() {
  const { t, language } = useLanguage();
  const token = useToken();
  const signer = useSigner();
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<unknown>(null);
  const enter = async () => {
    if (signer === null || busy) return;
    setBusy(true);
    setFault(null);
    try {
      await logIn(signer);
    } catch (refusal) {
      setFault(refusal);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="stack-s">
      <div>
        <Button main disabled={signer === null || busy} onClick={() => void enter()}>
          {busy ? <span className="spinner" aria-hidden="true" /> : null}
          {t('login')}
        </Button>
      </div>
      {fault === null ? null : <Note tone="bad">{sentenceOf(fault, { t, language, token })}</Note>}
    </div>
  );
}

export function SwitchChainButton() {
  const { t, language } = useLanguage();
  const token = useToken();
  const deployment = useDeployment().data;
  const [fault, setFault] = useState<unknown>(null);
  if (deployment === undefined) return null;
  const switchChain = async () => {
    setFault(null);
    try {
      await walletStore.switchChain({
        id: deployment.chainId,
        name: deployment.networkName,
        rpcUrl: deployment.rpcUrl,
      });
    } catch (refusal) {
      setFault(refusal);
    }
  };
  return (
    <div className="stack-s">
      <div>
        <Button main onClick={() => void switchChain()}>
          {t('chain.switch', { name: deployment.networkName })}
        </Button>
      </div>
      {fault === null ? null : <Note tone="bad">{sentenceOf(fault, { t, language, token })}</Note>}
    </div>
  );
}
