import { parsed } from './schema';

/** Lines end with one of our own that says what it cost; what stands before it is the result, byte for byte. */
export function endOfStream(
  whole: Uint8Array,
): { result: Uint8Array; callId: string; charge: bigint } | null {
  const text = new TextDecoder().decode(whole);
  const lines = text.replace(/\n$/, '').split('\n');
  const last = parsed(lines.at(-1) ?? '');
  if (typeof last !== 'object' || last === null) return null;
  const found = ('charged' in last ? last.charged : last) as Record<string, unknown>;
  if (typeof found['call_id'] !== 'string' || typeof found['charge'] !== 'string') return null;
  const before = new TextEncoder().encode(`${lines.at(-1) ?? ''}\n`).length;
  const result = whole.slice(0, whole.length - before + (text.endsWith('\n') ? 0 : 1));
  return { result, callId: found['call_id'], charge: BigInt(found['charge']) };
}
