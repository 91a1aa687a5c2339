// An app, called from a form; after each call what it cost, and the receipt to check.

import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { CheckList } from '~/components/checks';
import { Fault } from '~/components/asking';
import { Button, Field, Note, SelectField, Tag, TextField } from '~/components/parts';
import { Amount, Hex } from '~/components/values';
import { AllowanceForm } from '~/features/keys/AllowanceForm';
import { ApiProblem, ask, client, fetchRaw, newIdempotencyKey } from '~/lib/api';
import { useSignsFor } from '~/lib/chain/keys';
import { sentenceOf } from '~/lib/chain/faults';
import { useDeployment, useToken } from '~/lib/deployment';
import { useLanguage, useT } from '~/lib/i18n';
import { verifyCall, type Check } from '~/lib/protocol/verify';
import { shownMs } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import type { App, AppManifest } from './queries';
import { fillIn, parsed, type FormField } from './schema';
import { endOfStream } from './stream';

interface Made {
  callId: string;
  charge: bigint;
  tookMs: number;
  sent: Uint8Array;
  result: Uint8Array;
  text: string;
}

/** Answers that a form cannot show as text are shown by their size. */
const LONGEST_SHOWN = 100_000;

export function Playground({ app, manifest }: { app: App; manifest: AppManifest | null }) {
  const t = useT();
  const [typed, setTyped] = useState<Record<string, string>>({});
  const [raw, setRaw] = useState('{}');
  const [stream, setStream] = useState(false);
  const [busy, setBusy] = useState(false);
  const [piece, setPiece] = useState('');
  const [made, setMade] = useState<Made | null>(null);
  const [fault, setFault] = useState<unknown>(null);
  const fields = manifest?.input?.fields ?? null;
  const filled = fields === null ? asObject(raw) : fillIn(fields, typed);
  const needsAllowance = fault instanceof ApiProblem && ['no_allowance', 'paused_funds'].includes(fault.code);

  const call = async () => {
    if (!filled.ok || busy) return;
    setBusy(true);
    setFault(null);
    setMade(null);
    setPiece('');
    try {
      setMade(await callApp(app, filled.input, stream, setPiece));
    } catch (refusal) {
      setFault(refusal);
    } finally {
      setBusy(false);
    }
  };

  return (
    <div className="columns">
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void call();
        }}
      >
        {fields === null ? (
          <Field
            label={t('play.input')}
            hint={t('play.inputHint')}
            fault={filled.ok ? null : t('play.badJson')}
          >
            {(id, described) => (
              <textarea
                id={id}
                className="input mono"
                rows={6}
                spellCheck={false}
                aria-describedby={described}
                value={raw}
                onChange={(event) => setRaw(event.target.value)}
              />
            )}
          </Field>
        ) : (
          fields.map((field) => (
            <InputField
              key={field.name}
              field={field}
              value={typed[field.name] ?? field.initial}
              wrong={
                !filled.ok &&
                'field' in filled &&
                filled.field === field.name &&
                (typed[field.name] ?? '') !== ''
              }
              onValue={(value) => setTyped((before) => ({ ...before, [field.name]: value }))}
            />
          ))
        )}
        <label className="check">
          <input type="checkbox" checked={stream} onChange={(event) => setStream(event.target.checked)} />
          {t('play.stream')}
        </label>
        <div className="row">
          <Button main type="submit" disabled={!filled.ok || busy}>
            {busy ? <span className="spinner" aria-hidden="true" /> : null}
            {t('play.call')}
          </Button>
          <span className="small soft">{t('play.callNote')}</span>
        </div>
      </form>
      <div className="stack" aria-live="polite">
        <h3>{t('play.answer')}</h3>
        {busy ? (
          <pre className="code" data-streaming="">
            {piece === '' ? t('play.waiting') : piece}
          </pre>
        ) : null}
        {made === null && !busy && fault === null ? <p className="soft">{t('play.none')}</p> : null}
        {fault === null ? null : <Fault fault={fault} />}
        {needsAllowance ? (
          <div className="stack">
            <h3>{t('allow.title')}</h3>
            <AllowanceForm onGranted={() => setFault(null)} />
          </div>
        ) : null}
        {made === null ? null : <Answer made={made} />}
      </div>
    </div>
  );
}

function InputField(props: {
  field: FormField;
  value: string;
  wrong: boolean;
  onValue: (value: string) => void;
}) {
  const t = useT();
  const { field, value, onValue } = props;
  const label = field.required ? field.name : `${field.name} (${t('play.optional')})`;
  const hint = field.hint === '' ? undefined : field.hint;
  const fault = props.wrong ? t('play.badField') : null;
  if (field.kind === 'choice' || field.kind === 'flag') {
    const options = field.kind === 'flag' ? ['false', 'true'] : field.choices;
    return (
      <SelectField label={label} hint={hint} value={value} onValue={onValue}>
        {field.required ? null : <option value="">–</option>}
        {options.map((option) => (
          <option key={option} value={option}>
            {option}
          </option>
        ))}
      </SelectField>
    );
  }
  if (field.kind === 'long' || field.kind === 'json') {
    return (
      <Field label={label} hint={hint} fault={fault}>
        {(id, described) => (
          <textarea
            id={id}
            className={field.kind === 'json' ? 'input mono' : 'input'}
            rows={4}
            aria-describedby={described}
            value={value}
            onChange={(event) => onValue(event.target.value)}
          />
        )}
      </Field>
    );
  }
  return (
    <TextField
      label={label}
      hint={hint}
      fault={fault}
      value={value}
      inputMode={field.kind === 'text' ? 'text' : 'decimal'}
      onValue={onValue}
    />
  );
}

function Answer({ made }: { made: Made }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const deployment = useDeployment().data;
  const { address } = useWallet();
  const signsFor = useSignsFor();
  const [checks, setChecks] = useState<readonly Check[] | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const view = useQuery({
    queryKey: ['call', made.callId],
    queryFn: () => ask(client.GET('/v1/calls/{call_id}', { params: { path: { call_id: made.callId } } })),
  });
  const verify = async () => {
    if (deployment === undefined) return;
    setFault(null);
    try {
      const path = { call_id: made.callId };
      const receipt = await ask(client.GET('/v1/calls/{call_id}/receipt', { params: { path } }));
      const domain = { chainId: deployment.chainId, escrow: deployment.escrow };
      const asked = { callId: made.callId, payer: address, input: made.sent, result: made.result };
      setChecks(await verifyCall(domain, receipt, asked, signsFor));
    } catch (refusal) {
      setFault(sentenceOf(refusal, { t, language, token }));
    }
  };
  const good = checks?.every((check) => check.ok !== false) ?? true;
  return (
    <>
      <pre className="code" data-answer="">
        {made.text}
      </pre>
      <section className="receipt" aria-label={t('receipt.title')}>
        <div className="row-between">
          <h3>{t('receipt.title')}</h3>
          <Tag tone="good">{t('receipt.accepted')}</Tag>
        </div>
        <dl className="facts">
          <dt>{t('receipt.total')}</dt>
          <dd>
            <strong>
              <Amount units={made.charge} />
            </strong>
          </dd>
          <dt>{t('play.took')}</dt>
          <dd className="number">{shownMs(made.tookMs)}</dd>
          {view.data === undefined ? null : (
            <>
              <dt>{t('receipt.time')}</dt>
              <dd className="number">
                {shownMs(view.data.run_ms)}
                {view.data.cold_start_ms > 0
                  ? ` + ${shownMs(view.data.cold_start_ms)} ${t('play.cold')}`
                  : ''}
              </dd>
              <dt>{t('market.provider')}</dt>
              <dd>{view.data.provider === '' ? t('none') : <Hex value={view.data.provider} />}</dd>
            </>
          )}
          <dt>{t('play.callId')}</dt>
          <dd>
            <Hex value={made.callId} />
          </dd>
        </dl>
        <div>
          <Button onClick={() => void verify()}>{t('receipt.verify')}</Button>
        </div>
        {fault === null ? null : <Note tone="bad">{fault}</Note>}
        {checks === null ? null : (
          <>
            <Note tone={good ? 'good' : 'bad'} title={good ? t('receipt.holds') : t('receipt.fails')}>
              {good ? t('receipt.holdsText') : t('receipt.failsText')}
            </Note>
            <CheckList checks={checks} />
          </>
        )}
      </section>
    </>
  );
}

async function callApp(
  app: App,
  input: Record<string, unknown>,
  stream: boolean,
  onPiece: (text: string) => void,
): Promise<Made> {
  const sent = new TextEncoder().encode(JSON.stringify(input));
  const startedMs = Date.now();
  const response = await fetchRaw(`/v1/apps/${app.id}/calls`, {
    method: 'POST',
    body: sent,
    headers: {
      'Content-Type': 'application/json',
      'Idempotency-Key': newIdempotencyKey(),
      ...(stream ? { Accept: 'application/x-ndjson' } : {}),
    },
  });
  const whole = await readPieces(response, onPiece);
  const callId = response.headers.get('Tallystick-Call-Id') ?? '';
  const kind = response.headers.get('Content-Type') ?? '';
  const streamed = stream ? endOfStream(whole) : null;
  const result = streamed?.result ?? whole;
  return {
    callId: streamed?.callId ?? callId,
    charge: streamed?.charge ?? BigInt(response.headers.get('Tallystick-Charge') ?? '0'),
    tookMs: Date.now() - startedMs,
    sent,
    result,
    text: readable(result, kind),
  };
}

async function readPieces(response: Response, onPiece: (text: string) => void): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return new Uint8Array();
  const decoder = new TextDecoder();
  const pieces: Uint8Array[] = [];
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    if (text.length < LONGEST_SHOWN) onPiece((text += decoder.decode(value, { stream: true })));
  }
  return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
}

function readable(result: Uint8Array, kind: string): string {
  if (!/json|text|event-stream/.test(kind)) return `${result.length.toString()} B, ${kind}`;
  const text = new TextDecoder().decode(result);
  const value = kind.includes('application/json') ? parsed(text) : undefined;
  return (value === undefined ? text : JSON.stringify(value, null, 2)).slice(0, LONGEST_SHOWN);
}

function asObject(text: string): { ok: true; input: Record<string, unknown> } | { ok: false } {
  const value = parsed(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { ok: false };
  return { ok: true, input: value as Record<string, unknown> };
}
