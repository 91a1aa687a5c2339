// What publishing would do on chain: the one act that makes an app so (`publishing.RegistryChain.plan`).

import { isAddressEqual, zeroAddress, type Address, type Hex, type PublicClient } from 'viem';
import { appRegistryAbi } from '~/generated/abi';
import {
  addAppVersion,
  publishApp,
  setAppPrice,
  type AppPrice,
  type AppVersion,
  type Write,
} from '~/lib/chain/writes';
import type { Deployment } from '~/lib/deployment';

/** The app as the registry has it, and the price of its latest version once everything announced holds. */
export interface Published {
  publisher: Address;
  versions: number;
  permanent: boolean;
  retired: boolean;
  imageDigest: Hex;
  manifestDigest: Hex;
  price: AppPrice;
}

export type Plan =
  | { act: 'publish'; version: 1 }
  | { act: 'addVersion'; version: number }
  | { act: 'setPrice'; version: number }
  | { act: 'nothing'; version: number }
  | { act: 'refused'; why: 'foreign' | 'permanent' | 'retired' };

export function planOf(
  found: Published | null,
  publisher: Address,
  wanted: AppVersion,
  price: AppPrice,
): Plan {
  if (found === null) return { act: 'publish', version: 1 };
  if (!isAddressEqual(found.publisher, publisher)) return { act: 'refused', why: 'foreign' };
  if (found.permanent) return { act: 'refused', why: 'permanent' };
  if (found.retired) return { act: 'refused', why: 'retired' };
  const same = found.imageDigest === wanted.imageDigest && found.manifestDigest === wanted.manifestDigest;
  if (!same) return { act: 'addVersion', version: found.versions + 1 };
  const { flat, feePerCall, ratePerGpuSecond } = found.price;
  const asBefore =
    flat === price.flat && feePerCall === price.feePerCall && ratePerGpuSecond === price.ratePerGpuSecond;
  return { act: asBefore ? 'nothing' : 'setPrice', version: found.versions };
}

/** Null where the plan is no transaction. */
export function writeOf(
  at: Deployment,
  plan: Plan,
  app: { id: Hex; salt: Hex },
  wanted: AppVersion,
  price: AppPrice,
): Write | null {
  switch (plan.act) {
    case 'publish':
      return publishApp(at, app.salt, wanted, price);
    case 'addVersion':
      return addAppVersion(at, app.id, wanted, price);
    case 'setPrice':
      return setAppPrice(at, app.id, plan.version, price);
    default:
      return null;
  }
}

export async function readPublished(
  reader: PublicClient,
  at: Deployment,
  id: Hex,
): Promise<Published | null> {
  const registry = { address: at.registry, abi: appRegistryAbi } as const;
  const app = await reader.readContract({ ...registry, functionName: 'appOf', args: [id] });
  if (app.publisher === zeroAddress) return null;
  const [[imageDigest, manifestDigest], [, , discountEnd], block] = await Promise.all([
    reader.readContract({ ...registry, functionName: 'versionOf', args: [id, app.versions] }),
    reader.readContract({ ...registry, functionName: 'discountOf', args: [id] }),
    reader.getBlock(),
  ]);
  const retired = app.retiredAt !== 0n;
  // Past every announced change, and past the discount: the price that will hold then.
  const settled = [block.timestamp, app.pricesSettleAt, discountEnd + 1n].reduce((one, other) =>
    one > other ? one : other,
  );
  const price = retired
    ? { flat: 0n, feePerCall: 0n, ratePerGpuSecond: 0n }
    : await reader.readContract({
        ...registry,
        functionName: 'priceAt',
        args: [id, app.versions, settled],
      });
  const { publisher, versions, permanent } = app;
  return { publisher, versions, permanent, retired, imageDigest, manifestDigest, price };
}
