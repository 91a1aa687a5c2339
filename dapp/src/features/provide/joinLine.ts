// The line that `tallystick-provider join` prints: which cards there are, and the key's consent to sign for
// them. Nothing in it is believed before it is checked.

import {
  getAddress,
  isAddress,
  isAddressEqual,
  isHex,
  recoverTypedDataAddress,
  type Address,
  type Hex,
} from 'viem';
import { eip712Domain, eip712Types } from '~/generated/typedData';
import type { Deployment } from '~/lib/deployment';

const BEGINS = 'tallystick-provider:';
const MOST_CARDS = 256;

export interface JoinLine {
  provider: Address;
  key: Address;
  consent: Hex;
  gpus: readonly string[];
}

export type ReadLine =
  { ok: true; line: JoinLine } | { ok: false; why: 'empty' | 'form' | 'account' | 'signature' };

/** What the line says, if the key really consents to sign for this account on this market. */
export async function readJoinLine(text: string, at: Deployment, account: Address): Promise<ReadLine> {
  const plain = text.trim();
  if (plain === '') return { ok: false, why: 'empty' };
  const line = parse(plain);
  if (line === null) return { ok: false, why: 'form' };
  if (!isAddressEqual(line.provider, account)) return { ok: false, why: 'account' };
  const signer = await recoverTypedDataAddress({
    domain: eip712Domain(at.chainId, at.escrow),
    types: { OperatorKey: eip712Types.OperatorKey },
    primaryType: 'OperatorKey',
    message: { provider: line.provider, key: line.key },
    signature: line.consent,
  }).catch(() => null);
  if (signer === null || !isAddressEqual(signer, line.key)) return { ok: false, why: 'signature' };
  return { ok: true, line };
}

function parse(text: string): JoinLine | null {
  if (!text.startsWith(BEGINS)) return null;
  try {
    const packed = text.slice(BEGINS.length).replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const found = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    const { provider, key, consent, gpus } = found;
    if (typeof provider !== 'string' || typeof key !== 'string' || !isHex(consent)) return null;
    if (!isAddress(provider, { strict: false }) || !isAddress(key, { strict: false })) return null;
    if (!Array.isArray(gpus) || gpus.length > MOST_CARDS) return null;
    const ids = gpus.filter((id): id is string => typeof id === 'string' && id !== '');
    if (ids.length !== gpus.length || new Set(ids).size !== ids.length) return null;
    return { provider: getAddress(provider), key: getAddress(key), consent, gpus: ids };
  } catch {
    return null;
  }
}
