// What a version of an app is, and the digests that the registry keeps of it: the same bytes as
// `tallystick app deploy` makes (`app_manifest`, `publishing`). Pure.

import { encodeAbiParameters, keccak256, toBytes, type Address, type Hex } from 'viem';
import type { AppVersion } from '~/lib/chain/writes';
import { canonicalJson } from './hashing';

export type Handler =
  | { kind: 'function' | 'runpod'; entry: string; warm_up: string | null }
  | { kind: 'http'; port: number | null; socket: string | null; path: string; ready_path: string };

/** Every field of `AppManifest`: also one left at its default counts for the digest. */
export interface FullAppManifest {
  version: 1;
  name: string;
  image: string;
  handler: Handler;
  resources: {
    gpu_class: string;
    gpus: number;
    gpu_memory_mib: number;
    cpu_milli: number;
    memory_mib: number;
    disk_mib: number;
  };
  concurrency: number;
  scaling: { min_workers: number; max_workers: number; target_queue_delay_ms: number; cooldown_s: number };
  timeout_s: number;
  ready_timeout_s: number;
  max_request_bytes: number;
  max_response_bytes: number;
  safe_to_repeat: boolean;
  input_schema: string;
  environment: string[];
  network: 'none';
}

export const DEVELOPMENT_IMAGE = 'process';

/** The file that is handed in, byte for byte. */
export function manifestFile(manifest: FullAppManifest): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(canonicalJson(manifest)));
}

/** An object's text without spaces and with its keys sorted; empty for no schema. */
export function schemaText(text: string): string {
  return text.trim() === '' ? '' : canonicalJson(JSON.parse(text));
}

/** Null for an image that is not named by its digest: a tag may be moved to another image. */
export function imageDigest(image: string): Hex | null {
  if (image === DEVELOPMENT_IMAGE) return keccak256(toBytes(image));
  const found = /(?:^|@)sha256:([0-9a-f]{64})$/.exec(image);
  return found?.[1] === undefined ? null : `0x${found[1]}`;
}

/** Without an address of its own a manifest is known by its digest alone. */
export function versionOf(manifest: FullAppManifest): AppVersion {
  const image = imageDigest(manifest.image);
  if (image === null) throw new Error(`${manifest.image} names no image by its digest`);
  const manifestDigest = keccak256(manifestFile(manifest));
  return { imageDigest: image, manifestDigest, manifestUri: `urn:tallystick:manifest:${manifestDigest}` };
}

export function appSalt(name: string): Hex {
  return keccak256(toBytes(name));
}

/** Known before it is published; nobody but the publisher can take it. */
export function appIdOf(chainId: number, registry: Address, publisher: Address, name: string): Hex {
  return keccak256(
    encodeAbiParameters(
      [{ type: 'uint256' }, { type: 'address' }, { type: 'address' }, { type: 'bytes32' }],
      [BigInt(chainId), registry, publisher, appSalt(name)],
    ),
  );
}
