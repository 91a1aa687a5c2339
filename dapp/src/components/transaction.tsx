// The one button that sends a transaction, and the line under it that says how far it has come.

import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useRef, useState, type ReactNode } from 'react';
import type { Hash } from 'viem';
import { useDeployment, useStakingToken, useToken } from '~/lib/deployment';
import { sentenceOf } from '~/lib/chain/faults';
import { untilIndexed } from '~/lib/chain/indexed';
import { send, SentAndFailed, type Stage } from '~/lib/chain/transaction';
import type { Write } from '~/lib/chain/writes';
import { useLanguage, type Translate } from '~/lib/i18n';
import type { Token } from '~/lib/money';
import { useSigner, type Signer } from '~/lib/wallet/useWallet';
import { deedText } from './deeds';
import { Button } from './parts';
import { useToast } from './toasts';
import { shortHex, TransactionLink } from './values';

/** Makes the transaction; may ask the wallet for a signature first (`signing`). */
export type Prepare = (signer: Signer, tell: (stage: Stage) => void) => Promise<Write | readonly Write[]>;

export function useTransaction(onMined?: (hash: Hash) => void, onFailed?: (sent: boolean) => void) {
  const deployment = useDeployment().data;
  const signer = useSigner();
  const queries = useQueryClient();
  const [stage, setStage] = useState<Stage>({ name: 'idle' });
  const running = useRef(false);
  // The newest of both: what a page learned while the wallet was asked is known when the block is there.
  const after = useRef({ onMined, onFailed });
  useEffect(() => {
    after.current = { onMined, onFailed };
  });
  const shownHere = useRef(true);
  const toast = useToast();
  const { t } = useLanguage();
  useEffect(() => {
    shownHere.current = true;
    return () => {
      shownHere.current = false;
    };
  }, []);
  const run = useCallback(
    async (prepare: Prepare) => {
      // A second click while one is on its way is the same click.
      if (running.current || deployment === undefined || signer === null) return;
      running.current = true;
      try {
        setStage({ name: 'preparing' });
        const made = await prepare(signer, setStage);
        let hash: Hash = '0x';
        let block = 0n;
        const onStage = (next: Stage) => {
          if (next.name === 'mined') block = next.block;
          setStage(next);
        };
        for (const write of Array.isArray(made) ? (made as readonly Write[]) : [made as Write]) {
          hash = await send(deployment, signer, write, onStage);
        }
        running.current = false;
        await untilIndexed(block);
        await queries.invalidateQueries();
        if (!shownHere.current) toast(t('tx.minedToast', { hash: shortHex(hash) }));
        after.current.onMined?.(hash);
      } catch (fault) {
        const sent = fault instanceof SentAndFailed ? fault : null;
        setStage({ name: 'failed', fault: sent?.cause ?? fault, hash: sent?.hash ?? null });
        after.current.onFailed?.(sent !== null);
      } finally {
        running.current = false;
      }
    },
    [deployment, signer, queries, toast, t],
  );
  const busy = !['idle', 'mined', 'failed'].includes(stage.name);
  return { stage, run, busy, reset: useCallback(() => setStage({ name: 'idle' }), []) };
}

export function TransactionButton(props: {
  children: ReactNode;
  prepare: Prepare;
  disabled?: boolean;
  tone?: 'main' | 'bad' | 'plain';
  onMined?: (hash: Hash) => void;
  /** `sent` when the chain has it, so that nothing may be undone. */
  onFailed?: (sent: boolean) => void;
}) {
  const { stage, run, busy } = useTransaction(props.onMined, props.onFailed);
  const tone = props.tone ?? 'main';
  return (
    <div className="stack-s">
      <div>
        <Button
          main={tone === 'main'}
          className={tone === 'bad' ? 'button-bad' : ''}
          disabled={(props.disabled ?? false) || busy}
          onClick={() => void run(props.prepare)}
        >
          {busy ? <span className="spinner" aria-hidden="true" /> : null}
          {props.children}
        </Button>
      </div>
      <StageLine stage={stage} />
    </div>
  );
}

export function StageLine({ stage }: { stage: Stage }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const staking = useStakingToken();
  if (stage.name === 'idle') return <div role="status" />;
  const text = stageText(stage, { t, language, token, staking });
  const tone = stage.name === 'failed' ? 'bad' : stage.name === 'mined' ? 'good' : 'plain';
  return (
    <div className={`note note-${tone} small`} role="status" data-stage={stage.name}>
      <div>{text}</div>
      {'hash' in stage && stage.hash !== null ? (
        <div>
          {t('tx.hash')} <TransactionLink hash={stage.hash} />
        </div>
      ) : null}
    </div>
  );
}

interface StageWords {
  t: Translate;
  language: 'en' | 'zh';
  token: Token;
  staking: Token;
}

function stageText(stage: Stage, { t, language, token, staking }: StageWords): string {
  switch (stage.name) {
    case 'idle':
      return '';
    case 'preparing':
    case 'checking':
      return t('tx.checking');
    case 'signing':
      return t('tx.signing');
    case 'asking':
      return t('tx.asking', { deed: deedText(stage.deed, t, token, staking) });
    case 'pending':
      return `${stage.replaced ? t('tx.replaced') : t('tx.pending')} ${deedText(stage.deed, t, token, staking)}`;
    case 'mined':
      return t('tx.mined', { deed: deedText(stage.deed, t, token, staking), block: stage.block.toString() });
    case 'failed':
      return sentenceOf(stage.fault, { t, language, token, staking });
  }
}
