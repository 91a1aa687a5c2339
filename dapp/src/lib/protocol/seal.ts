// Who may read what, as `tallystick.protocol.sealing` has it: HPKE (X25519, HKDF-SHA256, AES-256-GCM) bound to
// task and fence, by a library over the browser's own cryptography. Keys stay in memory.

import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import {
  bytesToHex,
  concat,
  hexToBytes,
  parseSignature,
  stringToBytes,
  toHex,
  type Address,
  type Hex,
} from 'viem';
import { word64 } from './hashing';

/** Signed once a visit by the consumer's wallet; the same wallet always makes the same key of it. */
export const WALLET_TEXT =
  'Tallystick: open my results\n\n' +
  'This signature makes the key that reads the inputs and results of my tasks.\n' +
  'Sign it only in software you trust with them. It moves no money.\n\n' +
  'Version: 1';

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});

export interface ReadingKey {
  publicKey: Hex;
  privateBytes: Uint8Array<ArrayBuffer>;
}

const kept = new Map<string, ReadingKey>();

/** The key of this account, asked of its wallet once a visit and never stored. */
export async function readingKey(
  address: Address,
  sign: (text: string) => Promise<Hex>,
): Promise<ReadingKey> {
  const known = kept.get(address);
  if (known !== undefined) return known;
  const key = await readingKeyFromSignature(await sign(WALLET_TEXT));
  kept.set(address, key);
  return key;
}

export function knownReadingKey(address: Address): ReadingKey | null {
  return kept.get(address) ?? null;
}

export async function readingKeyFromSignature(signature: Hex): Promise<ReadingKey> {
  const { r, s, yParity } = parseSignature(signature);
  const canonical = hexToBytes(concat([r, s, toHex(27 + yParity, { size: 1 })]));
  const privateBytes = await derive(canonical, new Uint8Array(32), 'tallystick/v1/sealing-key');
  const publicBytes = await publicOf(privateBytes);
  return { publicKey: bytesToHex(publicBytes), privateBytes };
}

/** The key of one task's input bundle; `nonce` is the terms' and used for one task only. */
export function contentKey(key: ReadingKey, nonce: bigint): Promise<Uint8Array<ArrayBuffer>> {
  return derive(key.privateBytes, own(hexToBytes(toHex(nonce, { size: 32 }))), 'tallystick/v1/content-key');
}

const IV_BYTES = 12;

export async function encryptBundle(
  key: Uint8Array<ArrayBuffer>,
  bundle: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const aes = await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt']);
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
  const additionalData = own(stringToBytes('tallystick/v1/bundle'));
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, aes, bundle);
  return own(concat([iv, new Uint8Array(sealed)]));
}

/** Throws when the bytes were changed, or meant for another key. */
export async function decryptBundle(
  key: Uint8Array<ArrayBuffer>,
  sealed: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const aes = await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['decrypt']);
  const iv = own(sealed.slice(0, IV_BYTES));
  const additionalData = own(stringToBytes('tallystick/v1/bundle'));
  const parameters = { name: 'AES-GCM', iv, additionalData };
  return new Uint8Array(await crypto.subtle.decrypt(parameters, aes, own(sealed.slice(IV_BYTES))));
}

export async function sealInputKey(
  providerKey: Hex,
  taskId: Hex,
  fence: number,
  key: Uint8Array<ArrayBuffer>,
): Promise<Hex> {
  const recipientPublicKey = await suite.kem.deserializePublicKey(own(hexToBytes(providerKey)).buffer);
  const info = infoOf('tallystick/v1/input-key', taskId, fence);
  const sender = await suite.createSenderContext({ recipientPublicKey, info });
  const sealed = await sender.seal(key.buffer);
  return concat([bytesToHex(new Uint8Array(sender.enc)), bytesToHex(new Uint8Array(sealed))]);
}

const ENC_BYTES = 32;

/** Throws when the bytes were changed, or meant for another key, task or fence. */
export async function openResult(
  key: ReadingKey,
  taskId: Hex,
  fence: number,
  sealed: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const recipientKey = await suite.kem.importKey('raw', key.privateBytes.buffer, false);
  const recipient = await suite.createRecipientContext({
    recipientKey,
    enc: own(sealed.slice(0, ENC_BYTES)).buffer,
    info: infoOf('tallystick/v1/result', taskId, fence),
  });
  return new Uint8Array(await recipient.open(own(sealed.slice(ENC_BYTES)).buffer));
}

function infoOf(role: string, taskId: Hex, fence: number): ArrayBuffer {
  return own(hexToBytes(concat([toHex(role), '0x00', taskId, word64(fence)]))).buffer;
}

async function derive(
  secret: Uint8Array,
  salt: Uint8Array<ArrayBuffer>,
  info: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const base = await crypto.subtle.importKey('raw', own(secret), 'HKDF', false, ['deriveBits']);
  const parameters = { name: 'HKDF', hash: 'SHA-256', salt, info: own(stringToBytes(info)) };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, base, 256));
}

/** X25519 of the base point: what the public key is. WebCrypto gives it through the JWK of the pair. */
async function publicOf(privateBytes: Uint8Array): Promise<Uint8Array> {
  const pkcs8 = own(concat([hexToBytes('0x302e020100300506032b656e04220420'), privateBytes]));
  const key = await crypto.subtle.importKey('pkcs8', pkcs8, { name: 'X25519' }, true, ['deriveBits']);
  const { x } = await crypto.subtle.exportKey('jwk', key);
  const text = atob((x ?? '').replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** A copy whose buffer holds these bytes and no others. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes.length);
  copy.set(bytes);
  return copy;
}
