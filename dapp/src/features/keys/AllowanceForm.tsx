// Lets the gateway's session key open channels from your money, up to a cap and until a day: one signature.

import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { toHex, type Address } from 'viem';
import { Button, Note, SelectField, TextField } from '~/components/parts';
import { eip712Domain, eip712Types } from '~/generated/typedData';
import { ask, client } from '~/lib/api';
import { sentenceOf } from '~/lib/chain/faults';
import { requireSameAccount } from '~/lib/chain/transaction';
import { useDeployment, useToken } from '~/lib/deployment';
import { useLanguage } from '~/lib/i18n';
import { parseAmount } from '~/lib/money';
import { ZERO_DIGEST } from '~/lib/protocol/hashing';
import { useSigner } from '~/lib/wallet/useWallet';

const DAYS = [1, 7, 30, 90];

export function AllowanceForm({ onGranted }: { onGranted?: () => void }) {
  const { t, language } = useLanguage();
  const token = useToken();
  const signer = useSigner();
  const deployment = useDeployment().data;
  const queries = useQueryClient();
  const [cap, setCap] = useState('5');
  const [days, setDays] = useState('7');
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState<{ tone: 'good' | 'bad'; text: string } | null>(null);
  const amount = parseAmount(cap, token.decimals);

  const grant = async () => {
    if (!amount.ok || signer === null || deployment === undefined || busy) return;
    setBusy(true);
    setSaid(null);
    try {
      const key = await ask(client.GET('/v1/session-key'));
      const allowance = {
        payer: signer.address,
        signer: key.signer as Address,
        cap: amount.units,
        expiresAt: BigInt(Math.floor(Date.now() / 1000) + Number(days) * 86_400),
        purpose: ZERO_DIGEST,
        nonce: BigInt(toHex(crypto.getRandomValues(new Uint8Array(32)))),
      };
      requireSameAccount(signer);
      const signature = await signer.writer.signTypedData({
        domain: eip712Domain(deployment.chainId, deployment.escrow),
        types: { ChannelAllowance: eip712Types.ChannelAllowance },
        primaryType: 'ChannelAllowance',
        message: allowance,
      });
      const body = {
        allowance: {
          payer: allowance.payer,
          signer: allowance.signer,
          cap: allowance.cap.toString(),
          expires_at: Number(allowance.expiresAt),
          purpose: allowance.purpose,
          nonce: allowance.nonce.toString(),
        },
        signature,
      };
      await ask(client.POST('/v1/allowances', { body }));
      await queries.invalidateQueries({ queryKey: ['allowances'] });
      setSaid({ tone: 'good', text: t('allow.granted') });
      onGranted?.();
    } catch (fault) {
      setSaid({ tone: 'bad', text: sentenceOf(fault, { t, language, token }) });
    } finally {
      setBusy(false);
    }
  };

  return (
    <div className="stack">
      <p className="small soft">{t('allow.text')}</p>
      <div className="fields">
        <TextField
          label={t('allow.cap')}
          unit={token.symbol}
          inputMode="decimal"
          value={cap}
          onValue={setCap}
          fault={amount.ok || cap === '' ? null : t('amount.form')}
        />
        <SelectField label={t('allow.until')} value={days} onValue={setDays}>
          {DAYS.map((count) => (
            <option key={count} value={count}>
              {t('allow.days', { days: count })}
            </option>
          ))}
        </SelectField>
      </div>
      <div>
        <Button main disabled={!amount.ok || signer === null || busy} onClick={() => void grant()}>
          {busy ? <span className="spinner" aria-hidden="true" /> : null}
          {t('allow.sign')}
        </Button>
      </div>
      <div role="status">{said === null ? null : <Note tone={said.tone}>{said.text}</Note>}</div>
    </div>
  );
}
