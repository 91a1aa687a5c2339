import { useQuery } from '@tanstack/react-query';
import { keccak256 } from 'viem';
import { ask, client, fetchRaw, type Schemas } from '~/lib/api';
import type { FullAppManifest } from '~/lib/protocol/appManifest';
import { useSession } from '~/lib/session';
import { readSchema, type InputSchema } from './schema';

export type App = Schemas['AppBody'];

export type AppManifest = FullAppManifest & { input: InputSchema | null };

/** The version's file, if it is the one that the registry names; any other counts for nothing. */
export function useManifest(digest: string | undefined) {
  const session = useSession();
  return useQuery({
    queryKey: ['manifest', digest, session === null],
    queryFn: async () => {
      const path = `/v1/manifests/${digest ?? ''}`;
      const file = new Uint8Array(await (await fetchRaw(path)).arrayBuffer());
      if (keccak256(file) !== digest) throw new Error('The manifest is not the one that the registry names.');
      return readManifest(new TextDecoder().decode(file));
    },
    enabled: digest !== undefined,
    staleTime: Infinity,
    retry: false,
  });
}

export function readManifest(text: string): AppManifest {
  const found = JSON.parse(text) as FullAppManifest;
  return { ...found, input: readSchema(found.input_schema) };
}

export function useApp(id: string) {
  return useQuery({
    queryKey: ['app', id],
    queryFn: () => ask(client.GET('/v1/apps/{app}', { params: { path: { app: id } } })),
    refetchInterval: 10_000,
  });
}

export function isMine(app: App, address: string | null): boolean {
  return address !== null && app.publisher.toLowerCase() === address.toLowerCase();
}
