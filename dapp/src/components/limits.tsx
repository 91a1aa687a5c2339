// The most that calls may cost: what is spent of each limit, and setting, changing and removing one.

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { ask, client, type Schemas } from '~/lib/api';
import { useToken } from '~/lib/deployment';
import { useT, type MessageKey, type Translate } from '~/lib/i18n';
import { exact, partOf, parseAmount } from '~/lib/money';
import { useWallet } from '~/lib/wallet/useWallet';
import { Asked, Fault } from './asking';
import { Button, Card, Empty, SelectField, Table, TableCard, Tag, TextField } from './parts';
import { Amount, shortHex } from './values';

type Limit = Schemas['SpendLimitBody'];
type Scope = Limit['scope'];
type Period = Limit['period'];
interface Names {
  apps: ReadonlyMap<string, string>;
  keys: ReadonlyMap<string, string>;
}

const SCOPES = ['workspace', 'key', 'app'] as const;
const PERIODS = ['day', 'call', 'total'] as const;
const SCOPE_TEXT = {
  workspace: 'limits.workspace',
  key: 'limits.key',
  app: 'limits.app',
} as const satisfies Record<Scope, MessageKey>;
const PERIOD_TEXT = {
  call: 'limits.call',
  day: 'limits.day',
  total: 'limits.total',
} as const satisfies Record<Period, MessageKey>;

export function Limits() {
  const { address } = useWallet();
  const [changing, setChanging] = useState<Limit | null>(null);
  const names = useNames();
  return (
    <div className="columns columns-wide-left">
      <LimitTable names={names} onChange={setChanging} />
      <LimitForm
        key={`${address ?? ''} ${changing?.id ?? ''}`}
        names={names}
        changing={changing}
        onDone={() => setChanging(null)}
      />
    </div>
  );
}

/** What a limit may be of: own keys, and apps. */
function useNames(): Names {
  const { address } = useWallet();
  const keys = useQuery({ queryKey: ['keys', address], queryFn: () => ask(client.GET('/v1/keys')) });
  const apps = useQuery({
    queryKey: ['apps', 'names'],
    queryFn: () => ask(client.GET('/v1/apps', { params: { query: { limit: 100 } } })),
  });
  return {
    keys: new Map((keys.data ?? []).map((key) => [key.id, key.name])),
    apps: new Map((apps.data?.items ?? []).map((app) => [app.id, ''])),
  };
}

function LimitTable({ names, onChange }: { names: Names; onChange: (limit: Limit) => void }) {
  const t = useT();
  const { address } = useWallet();
  const queries = useQueryClient();
  const [fault, setFault] = useState<unknown>(null);
  const limits = useQuery({
    queryKey: ['limits', address],
    queryFn: () => ask(client.GET('/v1/spend-limits')),
    refetchInterval: 10_000,
  });
  const remove = async (id: string) => {
    setFault(null);
    try {
      const { response, error } = await client.DELETE('/v1/spend-limits/{limit_id}', {
        params: { path: { limit_id: id } },
      });
      if (!response.ok) await ask(Promise.resolve({ response, error }));
      await queries.invalidateQueries({ queryKey: ['limits'] });
    } catch (refusal) {
      setFault(refusal);
    }
  };
  return (
    <TableCard title={t('limits.title')}>
      <Asked query={limits}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title={t('limits.none')}>{t('limits.noneText')}</Empty>
          ) : (
            <Table
              caption={t('limits.title')}
              rows={items}
              rowKey={(row) => row.id}
              columns={[
                { key: 'scope', head: t('limits.of'), cell: (row) => nameOf(row, names, t) },
                { key: 'period', head: t('limits.each'), cell: (row) => t(PERIOD_TEXT[row.period]) },
                {
                  key: 'spent',
                  head: t('limits.spent'),
                  cell: (row) => <Spent limit={row} name={nameOf(row, names, t)} />,
                },
                {
                  key: 'act',
                  head: <span className="hidden-but-read">{t('keys.act')}</span>,
                  cell: (row) => (
                    <span className="row">
                      <Button className="button-small" onClick={() => onChange(row)}>
                        {t('limits.change')}
                      </Button>
                      <Button className="button-small" onClick={() => void remove(row.id)}>
                        {t('limits.remove')}
                      </Button>
                    </span>
                  ),
                },
              ]}
            />
          )
        }
      </Asked>
      {fault === null ? null : <Fault fault={fault} />}
    </TableCard>
  );
}

/** A bar of what is spent against the limit; one for each call has nothing spent, and no bar. */
function Spent({ limit, name }: { limit: Limit; name: string }) {
  const t = useT();
  const most = BigInt(limit.limit);
  if (limit.spent === null) return <Amount units={most} />;
  const spent = BigInt(limit.spent);
  const percent = partOf(spent, most);
  return (
    <div className="budget">
      <div className="row-between">
        <span>
          <Amount units={spent} /> <span className="soft">/ </span>
          <Amount units={most} />
        </span>
        {spent >= most ? <Tag tone="bad">{t('limits.reached')}</Tag> : null}
      </div>
      <progress
        className={`meter ${percent >= 100 ? 'meter-bad' : percent >= 80 ? 'meter-warn' : ''}`}
        max={100}
        value={percent}
        aria-label={t('limits.bar', { name, percent })}
      />
    </div>
  );
}

function LimitForm(props: { names: Names; changing: Limit | null; onDone: () => void }) {
  const t = useT();
  const token = useToken();
  const queries = useQueryClient();
  const { names, changing } = props;
  const [text, setText] = useState(changing === null ? '' : exact(BigInt(changing.limit), token.decimals));
  const [scope, setScope] = useState<Scope>(changing?.scope ?? 'workspace');
  const [chosen, setSubject] = useState(changing?.subject ?? '');
  const [period, setPeriod] = useState<Period>(changing?.period ?? 'day');
  const [fault, setFault] = useState<unknown>(null);
  const amount = parseAmount(text, token.decimals);
  const subjects = scope === 'key' ? names.keys : scope === 'app' ? names.apps : new Map<string, string>();
  const subject = scope === 'workspace' ? '' : chosen === '' ? ([...subjects.keys()][0] ?? '') : chosen;
  const complete = amount.ok && (scope === 'workspace' || subject !== '');
  const set = async () => {
    if (!amount.ok) return;
    setFault(null);
    try {
      await ask(
        client.PUT('/v1/spend-limits', { body: { scope, subject, period, limit: amount.units.toString() } }),
      );
      setText('');
      props.onDone();
      await queries.invalidateQueries({ queryKey: ['limits'] });
    } catch (refusal) {
      setFault(refusal);
    }
  };
  return (
    <Card title={changing === null ? t('limits.set') : t('limits.changeOne')}>
      <div className="fields">
        <TextField
          label={t('limits.most')}
          unit={token.symbol}
          inputMode="decimal"
          autoComplete="off"
          value={text}
          onValue={setText}
          fault={amount.ok || text === '' ? null : t('amount.form')}
        />
        <SelectField
          label={t('limits.each')}
          value={period}
          disabled={changing !== null}
          onValue={(value) => setPeriod(value as Period)}
        >
          {PERIODS.map((value) => (
            <option key={value} value={value}>
              {t(PERIOD_TEXT[value])}
            </option>
          ))}
        </SelectField>
        <SelectField
          label={t('limits.of')}
          value={scope}
          disabled={changing !== null}
          onValue={(value) => {
            setScope(value as Scope);
            setSubject('');
          }}
        >
          {SCOPES.map((value) => (
            <option key={value} value={value}>
              {t(SCOPE_TEXT[value])}
            </option>
          ))}
        </SelectField>
        {scope === 'workspace' ? null : (
          <SelectField
            label={t(SCOPE_TEXT[scope])}
            value={subject}
            disabled={changing !== null}
            hint={subjects.size === 0 ? t(scope === 'key' ? 'keys.none' : 'apps.none') : undefined}
            onValue={setSubject}
          >
            {[...subjects].map(([id, name]) => (
              <option key={id} value={id}>
                {name === '' ? shortHex(id) : name}
              </option>
            ))}
          </SelectField>
        )}
      </div>
      <div className="row">
        <Button main disabled={!complete} onClick={() => void set()}>
          {changing === null ? t('limits.setAct') : t('limits.changeAct')}
        </Button>
        {changing === null ? null : <Button onClick={props.onDone}>{t('limits.leave')}</Button>}
      </div>
      {fault === null ? null : <Fault fault={fault} />}
    </Card>
  );
}

function nameOf(limit: Limit, names: Names, t: Translate): string {
  const subject = limit.subject ?? '';
  if (limit.scope === 'workspace') return t('limits.workspace');
  const name = (limit.scope === 'key' ? names.keys : names.apps).get(subject) ?? '';
  return `${t(SCOPE_TEXT[limit.scope])} ${name === '' ? shortHex(subject) : name}`;
}
