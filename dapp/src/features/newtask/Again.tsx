// A task run again: its order is public to its consumer, its input was sealed and is opened here, by the wallet
// alone. What is sent is a new order with a new seal.

import { useQuery } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { keccak256 } from 'viem';
import { Asked } from '~/components/asking';
import { Button, Card, Note } from '~/components/parts';
import { shortHex } from '~/components/values';
import { fetchRaw } from '~/lib/api';
import { sentenceOf } from '~/lib/chain/faults';
import { useToken } from '~/lib/deployment';
import { useLanguage, useT } from '~/lib/i18n';
import { gunzip, untar, type BundleFile } from '~/lib/protocol/bundle';
import { contentKey, decryptBundle, readingKey } from '~/lib/protocol/seal';
import { useSigner } from '~/lib/wallet/useWallet';
import { oneTask, type Task } from '~/features/tasks/queries';
import { draftAgain, type Draft } from './draft';

/** An input is packed here or by the SDK; nobody's browser is filled by more than this. */
const MOST_BYTES = 512 * 1024 * 1024;

export function Again({ id, children }: { id: string; children: (draft: Draft) => ReactNode }) {
  const task = useQuery({ queryKey: ['task', id], queryFn: () => oneTask(id), staleTime: Infinity });
  return <Asked query={task}>{(found) => <Opening task={found}>{children}</Opening>}</Asked>;
}

function Opening({ task, children }: { task: Task; children: (draft: Draft) => ReactNode }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const signer = useSigner();
  const sealed = task.manifest.input_digest ?? null;
  const [files, setFiles] = useState<readonly BundleFile[] | null>(sealed === null ? [] : null);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<string | null>(null);
  const open = async () => {
    if (signer === null || sealed === null || busy) return;
    setBusy(true);
    setFault(null);
    try {
      const key = await readingKey(signer.address, (message) => signer.writer.signMessage({ message }));
      const bytes = new Uint8Array(await (await fetchRaw(`/v1/blobs/${sealed}`)).arrayBuffer());
      const found = await opened(task, sealed, bytes, key).catch(() => null);
      setFiles(found);
      if (found === null) setFault(t('new.againFault'));
    } catch (refusal) {
      setFault(sentenceOf(refusal, { t, language, token }));
    } finally {
      setBusy(false);
    }
  };
  if (files !== null)
    return (
      <>
        <AsBefore id={task.id} />
        {children(draftAgain(task, files, token.decimals))}
      </>
    );
  return (
    <Card title={t('new.again', { id: shortHex(task.id) })}>
      <p>{t('new.againOpenText')}</p>
      <div>
        <Button main disabled={busy || signer === null} onClick={() => void open()}>
          {busy ? <span className="spinner" aria-hidden="true" /> : null}
          {t('new.againOpen')}
        </Button>
      </div>
      {fault === null ? null : <Note tone="bad">{fault}</Note>}
    </Card>
  );
}

function AsBefore({ id }: { id: string }) {
  const t = useT();
  return <Note title={t('new.again', { id: shortHex(id) })}>{t('new.againText')}</Note>;
}

async function opened(
  task: Task,
  digest: string,
  bytes: Uint8Array,
  key: Awaited<ReturnType<typeof readingKey>>,
): Promise<BundleFile[]> {
  if (keccak256(bytes) !== digest) throw new Error('the bytes are others');
  const content = await contentKey(key, BigInt(task.terms.nonce));
  return untar(await gunzip(await decryptBundle(content, bytes), MOST_BYTES));
}
