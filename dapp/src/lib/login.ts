// SIWE (EIP-4361): the wallet signs who logs in where; the backend answers a token for this visit.

import { getAddress, type Address } from 'viem';
import { ask, client } from './api';
import { requireSameAccount } from './chain/transaction';
import { setSession } from './session';
import type { Signer } from './wallet/useWallet';

const GOOD_FOR_MS = 10 * 60 * 1000;

export function loginText(message: {
  origin: string;
  address: Address;
  chainId: number;
  nonce: string;
  statement: string;
  now: Date;
}): string {
  const url = new URL(message.origin);
  return [
    `${url.host} wants you to sign in with your Ethereum account:`,
    getAddress(message.address),
    '',
    message.statement,
    '',
    `URI: ${url.origin}`,
    'Version: 1',
    `Chain ID: ${message.chainId}`,
    `Nonce: ${message.nonce}`,
    `Issued At: ${iso(message.now)}`,
    `Expiration Time: ${iso(new Date(message.now.getTime() + GOOD_FOR_MS))}`,
  ].join('\n');
}

/** EIP-4361 allows printable ASCII only, so the statement is English in both languages. */
const STATEMENT = 'Log in to Tallystick. This costs nothing and moves no money.';

export async function logIn(signer: Signer): Promise<void> {
  const { nonce } = await ask(client.POST('/v1/auth/nonce'));
  requireSameAccount(signer);
  const message = loginText({
    origin: location.origin,
    address: signer.address,
    chainId: signer.chain.id,
    nonce,
    statement: STATEMENT,
    now: new Date(),
  });
  const signature = await signer.writer.signMessage({ message });
  const session = await ask(client.POST('/v1/auth/login', { body: { message, signature } }));
  requireSameAccount(signer);
  setSession({ token: session.token, address: session.address, expiresAtMs: session.expires_at_ms });
}

export async function logOut(): Promise<void> {
  try {
    await ask(client.POST('/v1/auth/logout'));
  } finally {
    setSession(null);
  }
}

function iso(moment: Date): string {
  return `${moment.toISOString().slice(0, 19)}Z`;
}
