// Cards on offer, and what they cost: pure, over what GET /v1/gpus answers.

import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { ask, client, type Schemas } from '~/lib/api';

export type Listing = Schemas['GpuListing'];

/** Every card of every provider, page by page. */
export async function allListings(): Promise<Listing[]> {
  const found: Listing[] = [];
  let cursor: string | undefined;
  do {
    const query = { limit: 200, ...(cursor === undefined ? {} : { cursor }) };
    const page = await ask(client.GET('/v1/gpus', { params: { query } }));
    found.push(...page.items);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined && found.length < MOST_SHOWN);
  return found;
}

const MOST_SHOWN = 5_000;

export function useListings() {
  return useQuery({ queryKey: ['gpus'], queryFn: allListings, refetchInterval: 5_000 });
}

/** The offers that fit a search, by their key; null where nothing is searched for. Asked a moment after the last letter. */
export function useSearch(where: string) {
  const wanted = where.trim();
  return useQuery({
    queryKey: ['card-search', wanted],
    queryFn: async ({ signal }) => {
      await new Promise((done) => setTimeout(done, TYPED_MS));
      if (signal.aborted || wanted === '') return null;
      const query = { where: wanted, limit: 200 };
      const found = await ask(client.GET('/v1/market/search', { params: { query } }));
      return new Set(
        found.items.map((item) =>
          [item.provider, item.gpu_class, item.model, item.memory_mib, item.rate_per_gpu_second].join('|'),
        ),
      );
    },
    placeholderData: keepPreviousData,
    retry: false,
  });
}

const TYPED_MS = 250;

/** Cards of one kind at one provider and price: one line of the market. */
export interface Offer {
  key: string;
  provider: string;
  gpuClass: string;
  model: string;
  memoryMib: number;
  simulated: boolean;
  rate: bigint;
  cards: number;
  free: number;
  online: boolean;
}

export function offersOf(listings: readonly Listing[]): Offer[] {
  const found = new Map<string, Offer>();
  for (const { provider, gpu, rate_per_gpu_second: rate, busy, online } of listings) {
    const key = [provider, gpu.gpu_class, gpu.model, gpu.memory_mib, rate].join('|');
    const offer = found.get(key) ?? {
      key,
      provider,
      gpuClass: gpu.gpu_class,
      model: gpu.model,
      memoryMib: gpu.memory_mib,
      simulated: gpu.simulated ?? false,
      rate: BigInt(rate),
      cards: 0,
      free: 0,
      online,
    };
    offer.cards += 1;
    if (online && !busy) offer.free += 1;
    found.set(key, offer);
  }
  return [...found.values()];
}

export interface PriceRow {
  key: string;
  gpuClass: string;
  model: string;
  cards: number;
  free: number;
  min: bigint;
  median: bigint;
  max: bigint;
}

/** Over cards, not providers: four cards at one price weigh four times. */
export function pricesByModel(offers: readonly Offer[]): PriceRow[] {
  const groups = new Map<string, Offer[]>();
  for (const offer of offers) {
    if (!offer.online) continue;
    const key = `${offer.gpuClass}|${offer.model}`;
    groups.set(key, [...(groups.get(key) ?? []), offer]);
  }
  return [...groups.entries()].map(([key, group]) => {
    const rates = group
      .flatMap((offer) => Array.from({ length: offer.cards }, () => offer.rate))
      .sort(compare);
    const [first] = group;
    return {
      key,
      gpuClass: first?.gpuClass ?? '',
      model: first?.model ?? '',
      cards: rates.length,
      free: group.reduce((sum, offer) => sum + offer.free, 0),
      min: rates[0] ?? 0n,
      median: rates[Math.floor((rates.length - 1) / 2)] ?? 0n,
      max: rates.at(-1) ?? 0n,
    };
  });
}

export interface Wanted {
  gpuClass: string;
  memoryGib: number;
  freeOnly: boolean;
  realOnly: boolean;
  sort: 'price' | 'free' | 'memory';
}

export function chooseOffers(offers: readonly Offer[], wanted: Wanted): Offer[] {
  return offers
    .filter((offer) => wanted.gpuClass === '' || offer.gpuClass === wanted.gpuClass)
    .filter((offer) => offer.memoryMib >= wanted.memoryGib * 1024)
    .filter((offer) => !wanted.freeOnly || offer.free > 0)
    .filter((offer) => !wanted.realOnly || !offer.simulated)
    .sort((one, other) => {
      if (wanted.sort === 'free') return other.free - one.free || compare(one.rate, other.rate);
      if (wanted.sort === 'memory') return other.memoryMib - one.memoryMib || compare(one.rate, other.rate);
      return compare(one.rate, other.rate) || other.free - one.free;
    });
}

export function compare(one: bigint, other: bigint): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
