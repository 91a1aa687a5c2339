// What the provider signed, what this browser makes of it, the result, and the consumer's half of the stick.

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { keccak256, type Hex as HexText } from 'viem';
import { Asked } from '~/components/asking';
import { CheckList } from '~/components/checks';
import { Button, Note, Tag } from '~/components/parts';
import { Amount, Hex, Moment } from '~/components/values';
import { eip712Domain, eip712Types } from '~/generated/typedData';
import { ask, client, fetchRaw, type Schemas } from '~/lib/api';
import { useSignsFor } from '~/lib/chain/keys';
import { sentenceOf } from '~/lib/chain/faults';
import { requireSameAccount } from '~/lib/chain/transaction';
import { useDeployment, useToken } from '~/lib/deployment';
import { useLanguage } from '~/lib/i18n';
import { gunzip, untar, type BundleFile } from '~/lib/protocol/bundle';
import { receiptDigest } from '~/lib/protocol/hashing';
import { openResult, readingKey } from '~/lib/protocol/seal';
import { verifyTask, type Check } from '~/lib/protocol/verify';
import { shownMs } from '~/lib/time';
import { useSigner } from '~/lib/wallet/useWallet';
import type { Task } from './queries';

export function Receipt({ task }: { task: Task }) {
  const receipt = useQuery({
    queryKey: ['receipt', task.id, task.state],
    queryFn: () => ask(client.GET('/v1/tasks/{task_id}/receipt', { params: { path: { task_id: task.id } } })),
  });
  return <Asked query={receipt}>{(view) => <ReceiptView task={task} view={view} />}</Asked>;
}

function ReceiptView({ task, view }: { task: Task; view: Schemas['ReceiptView'] }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const deployment = useDeployment().data;
  const signer = useSigner();
  const signsFor = useSignsFor();
  const queries = useQueryClient();
  const [checks, setChecks] = useState<readonly Check[] | null>(null);
  const [busy, setBusy] = useState('');
  const [fault, setFault] = useState<string | null>(null);
  const { receipt } = view;
  const good = checks !== null && checks.every((check) => check.ok !== false);
  const canAccept = !view.accepted && !['settled', 'refunded'].includes(task.state);

  const attempt = async (name: string, act: () => Promise<void>) => {
    if (busy !== '') return;
    setBusy(name);
    setFault(null);
    try {
      await act();
    } catch (refusal) {
      setFault(sentenceOf(refusal, { t, language, token }));
    } finally {
      setBusy('');
    }
  };
  const check = async (): Promise<readonly Check[]> => {
    if (deployment === undefined || signer === null) return [];
    const domain = { chainId: deployment.chainId, escrow: deployment.escrow };
    const found = await verifyTask(domain, task, view, signer.address, signsFor, Date.now());
    setChecks(found);
    return found;
  };
  const verify = async () => {
    await check();
  };
  const accept = async () => {
    if (deployment === undefined || signer === null) return;
    const found = await check();
    if (found.some((one) => one.ok === false)) return;
    const domain = { chainId: deployment.chainId, escrow: deployment.escrow };
    // The digest is this browser's own, never the backend's word.
    const message = {
      taskId: task.id as HexText,
      total: BigInt(receipt.total),
      receipt: receiptDigest(domain, receipt),
    };
    requireSameAccount(signer);
    const signature = await signer.writer.signTypedData({
      domain: eip712Domain(deployment.chainId, deployment.escrow),
      types: { Acceptance: eip712Types.Acceptance },
      primaryType: 'Acceptance',
      message,
    });
    const acceptance = { task_id: task.id, total: receipt.total, receipt: message.receipt };
    await ask(
      client.POST('/v1/tasks/{task_id}/acceptance', {
        params: { path: { task_id: task.id } },
        body: { acceptance, signature },
      }),
    );
    await queries.invalidateQueries();
  };

  return (
    <section className="receipt" aria-label={t('receipt.title')}>
      <div className="row-between">
        <h2>{t('receipt.title')}</h2>
        <div className="row">
          {view.simulated ? <Tag tone="warn">{t('simulated')}</Tag> : null}
          <Tag tone={view.accepted ? 'good' : 'plain'}>
            {view.accepted ? t('receipt.accepted') : t('receipt.oneHalf')}
          </Tag>
        </div>
      </div>
      <div className="columns">
        <dl className="facts">
          <dt>{t('receipt.total')}</dt>
          <dd>
            <strong>
              <Amount units={BigInt(receipt.total)} />
            </strong>
          </dd>
          <dt>{t('receipt.time')}</dt>
          <dd className="number">{shownMs(receipt.ended_at_ms - receipt.started_at_ms)}</dd>
          <dt>{t('receipt.gpuTime')}</dt>
          <dd className="number">{shownMs(receipt.gpu_ms)}</dd>
          <dt>{t('receipt.energy')}</dt>
          <dd className="number">
            {view.energy_mj === null
              ? t('receipt.noReading')
              : `${(view.energy_mj / 1000).toLocaleString('en')} J`}
          </dd>
          <dt>{t('receipt.exit')}</dt>
          <dd>
            <Tag tone={view.exit_code === 0 ? 'good' : 'bad'}>{view.exit_code}</Tag>
          </dd>
          <dt>{t('receipt.ended')}</dt>
          <dd>
            <Moment ms={receipt.ended_at_ms} />
          </dd>
        </dl>
        <dl className="facts">
          <dt>{t('market.provider')}</dt>
          <dd>
            <Hex value={receipt.provider} />
          </dd>
          <dt>{t('receipt.digest')}</dt>
          <dd>
            <Hex value={view.digest} />
          </dd>
          <dt>{t('receipt.result')}</dt>
          <dd>
            <Hex value={receipt.result} />
          </dd>
          <dt>{t('receipt.signature')}</dt>
          <dd>
            <Hex value={view.signature} />
          </dd>
        </dl>
      </div>
      <div className="row">
        <Button disabled={busy !== ''} onClick={() => void attempt('verify', verify)}>
          {t('receipt.verify')}
        </Button>
        {canAccept ? (
          <Button main disabled={busy !== ''} onClick={() => void attempt('accept', accept)}>
            {t('receipt.accept')}
          </Button>
        ) : null}
      </div>
      {canAccept ? <p className="small soft">{t('receipt.acceptText')}</p> : null}
      {fault === null ? null : <Note tone="bad">{fault}</Note>}
      {checks === null ? null : (
        <>
          <Note tone={good ? 'good' : 'bad'} title={good ? t('receipt.holds') : t('receipt.fails')}>
            {good ? t('receipt.holdsText') : t('receipt.failsText')}
          </Note>
          <CheckList checks={checks} />
        </>
      )}
      <Result task={task} view={view} />
    </section>
  );
}

const UNPACKED_TIMES_MAX = 8;
const MIB = 1024 * 1024;

function Result({ task, view }: { task: Task; view: Schemas['ReceiptView'] }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const signer = useSigner();
  const [files, setFiles] = useState<readonly BundleFile[] | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const bring = async () => {
    if (signer === null || busy) return;
    setBusy(true);
    setFault(null);
    try {
      const key = await readingKey(signer.address, (message) => signer.writer.signMessage({ message }));
      const sealed = new Uint8Array(await (await fetchRaw(`/v1/tasks/${task.id}/result`)).arrayBuffer());
      if (keccak256(sealed) !== view.receipt.result) throw new Error(t('result.changed'));
      const bundle = await openResult(key, task.id as HexText, view.receipt.seq, sealed).catch(() => {
        throw new Error(t('result.notYours'));
      });
      const most = (task.manifest.max_output_mib ?? 256) * UNPACKED_TIMES_MAX * MIB;
      setFiles(untar(await gunzip(bundle, most)));
    } catch (refusal) {
      setFault(
        refusal instanceof Error && refusal.name === 'Error'
          ? refusal.message
          : sentenceOf(refusal, { t, language, token }),
      );
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="stack">
      <h3>{t('result.title')}</h3>
      {files === null ? (
        <>
          <p className="small soft">{t('result.text', { size: view.result_bytes.toLocaleString('en') })}</p>
          <div>
            <Button disabled={busy || signer === null} onClick={() => void bring()}>
              {busy ? <span className="spinner" aria-hidden="true" /> : null}
              {t('result.open')}
            </Button>
          </div>
        </>
      ) : files.length === 0 ? (
        <p className="soft">{t('result.empty')}</p>
      ) : (
        <ul className="stack-s">
          {files.map((file) => (
            <li key={file.name} className="row">
              <Button className="button-small" onClick={() => save(file)}>
                {t('result.save')}
              </Button>
              <span className="mono">{file.name}</span>
              <span className="soft small">{file.content.length.toLocaleString('en')} B</span>
            </li>
          ))}
        </ul>
      )}
      {fault === null ? null : <Note tone="bad">{fault}</Note>}
    </div>
  );
}

function save(file: BundleFile): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([file.content], { type: 'application/octet-stream' }));
  link.download = file.name.split('/').at(-1) ?? 'result';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
