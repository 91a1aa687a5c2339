import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import type { Hex as HexText } from 'viem';
import { NeedsLogIn } from '~/app/gates';
import { Asked, Fault } from '~/components/asking';
import { Limits } from '~/components/limits';
import { Button, Card, Empty, Note, Page, Table, TableCard, Tag, TextField } from '~/components/parts';
import { TransactionButton } from '~/components/transaction';
import { Amount, Copy, Hex, Moment } from '~/components/values';
import { ask, client, type Schemas } from '~/lib/api';
import { revokeAllowance } from '~/lib/chain/writes';
import { useDeployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { useWallet } from '~/lib/wallet/useWallet';
import { AllowanceForm } from './AllowanceForm';

type Scope = NonNullable<Schemas['CreateApiKey']['scopes']>[number];
const SCOPES: readonly Scope[] = ['calls', 'tasks:read', 'tasks:write'];

export function KeysPage() {
  const t = useT();
  return (
    <Page title={t('keys.title')} lead={t('keys.lead')}>
      <NeedsLogIn why={t('keys.why')}>
        <Allowances />
        <Limits />
        <ApiKeys />
      </NeedsLogIn>
    </Page>
  );
}

function Allowances() {
  const t = useT();
  const { address } = useWallet();
  const deployment = useDeployment().data;
  const allowances = useQuery({
    queryKey: ['allowances', address],
    queryFn: () => ask(client.GET('/v1/allowances')),
    refetchInterval: 5_000,
  });
  return (
    <div className="columns columns-wide-left">
      <TableCard title={t('allow.list')}>
        <Asked query={allowances}>
          {({ items }) =>
            items.length === 0 ? (
              <Empty title={t('allow.none')}>{t('allow.noneText')}</Empty>
            ) : (
              <Table
                caption={t('allow.list')}
                rows={items}
                rowKey={(row) => row.digest}
                columns={[
                  {
                    key: 'signer',
                    head: t('allow.signer'),
                    cell: (row) => <Hex value={row.allowance.signer} />,
                  },
                  {
                    key: 'left',
                    head: t('allow.left'),
                    number: true,
                    cell: (row) => (
                      <>
                        <Amount units={BigInt(row.left)} /> <span className="soft">/ </span>
                        <Amount units={BigInt(row.allowance.cap)} />
                      </>
                    ),
                  },
                  {
                    key: 'until',
                    head: t('allow.until'),
                    cell: (row) => <Moment ms={row.expires_at * 1000} />,
                  },
                  {
                    key: 'state',
                    head: t('state'),
                    cell: (row) =>
                      row.revoked ? (
                        <Tag tone="bad">{t('allow.revoked')}</Tag>
                      ) : row.expires_at * 1000 < Date.now() ? (
                        <Tag>{t('allow.expired')}</Tag>
                      ) : deployment === undefined ? null : (
                        <TransactionButton
                          tone="bad"
                          prepare={() => Promise.resolve(revokeAllowance(deployment, row.digest as HexText))}
                        >
                          {t('allow.revoke')}
                        </TransactionButton>
                      ),
                  },
                ]}
              />
            )
          }
        </Asked>
      </TableCard>
      <Card title={t('allow.title')}>
        <AllowanceForm />
      </Card>
    </div>
  );
}

function ApiKeys() {
  const t = useT();
  const { address } = useWallet();
  const queries = useQueryClient();
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<readonly Scope[]>(['calls', 'tasks:read']);
  const [secret, setSecret] = useState<string | null>(null);
  const [fault, setFault] = useState<unknown>(null);
  const keys = useQuery({ queryKey: ['keys', address], queryFn: () => ask(client.GET('/v1/keys')) });
  const change = async (act: () => Promise<void>) => {
    setFault(null);
    try {
      await act();
      await queries.invalidateQueries({ queryKey: ['keys'] });
    } catch (refusal) {
      setFault(refusal);
    }
  };
  const create = () =>
    change(async () => {
      const made = await ask(client.POST('/v1/keys', { body: { name: name.trim(), scopes: [...scopes] } }));
      setSecret(made.secret ?? null);
      setName('');
    });
  const revoke = (id: string) =>
    change(async () => {
      const { response, error } = await client.DELETE('/v1/keys/{key_id}', {
        params: { path: { key_id: id } },
      });
      if (!response.ok) await ask(Promise.resolve({ response, error }));
    });
  const scopeText = (scope: Scope) =>
    scope === 'calls'
      ? t('keys.scopeCalls')
      : scope === 'tasks:read'
        ? t('keys.scopeRead')
        : t('keys.scopeWrite');
  return (
    <div className="columns columns-wide-left">
      <TableCard title={t('keys.list')}>
        <Asked query={keys}>
          {(found) =>
            found.length === 0 ? (
              <Empty title={t('keys.none')}>{t('keys.noneText')}</Empty>
            ) : (
              <Table
                caption={t('keys.list')}
                rows={found}
                rowKey={(key) => key.id}
                columns={[
                  { key: 'name', head: t('task.name'), cell: (key) => key.name },
                  {
                    key: 'prefix',
                    head: t('keys.begins'),
                    cell: (key) => <span className="mono">{key.prefix}…</span>,
                  },
                  { key: 'scopes', head: t('keys.may'), cell: (key) => key.scopes.join(', ') },
                  {
                    key: 'used',
                    head: t('keys.used'),
                    cell: (key) =>
                      key.last_used_at_ms === null ? t('keys.never') : <Moment ms={key.last_used_at_ms} />,
                  },
                  {
                    key: 'act',
                    head: <span className="hidden-but-read">{t('keys.act')}</span>,
                    cell: (key) => (
                      <Button className="button-small button-bad" onClick={() => void revoke(key.id)}>
                        {t('keys.revoke')}
                      </Button>
                    ),
                  },
                ]}
              />
            )
          }
        </Asked>
      </TableCard>
      <Card title={t('keys.make')}>
        <TextField label={t('task.name')} value={name} maxLength={100} onValue={setName} />
        <fieldset className="stack-s">
          <legend className="label">{t('keys.may')}</legend>
          {SCOPES.map((scope) => (
            <label key={scope} className="check">
              <input
                type="checkbox"
                checked={scopes.includes(scope)}
                onChange={(event) =>
                  setScopes((before) =>
                    event.target.checked ? [...before, scope] : before.filter((one) => one !== scope),
                  )
                }
              />
              <span>
                <span className="mono">{scope}</span> <span className="soft small">{scopeText(scope)}</span>
              </span>
            </label>
          ))}
        </fieldset>
        <div>
          <Button main disabled={name.trim() === '' || scopes.length === 0} onClick={() => void create()}>
            {t('keys.makeAct')}
          </Button>
        </div>
        {secret === null ? null : (
          <Note tone="good" title={t('keys.once')}>
            <span className="row">
              <code>{secret}</code>
              <Copy text={secret} what={t('keys.secret')} />
            </span>
          </Note>
        )}
        {fault === null ? null : <Fault fault={fault} />}
      </Card>
    </div>
  );
}
