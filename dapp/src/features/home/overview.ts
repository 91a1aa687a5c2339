import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { ask, client, fetchRaw, type Schemas } from '~/lib/api';
import { follow } from '~/lib/sse';
import { useWallet } from '~/lib/wallet/useWallet';

export type Overview = Schemas['OverviewBody'];

/** What the account has and needs, as it changes; asked for now and then where no stream can be had. */
export function useOverview() {
  const { address } = useWallet();
  const queries = useQueryClient();
  useEffect(() => {
    const stop = new AbortController();
    const key = ['overview', address];
    void follow({
      signal: stop.signal,
      open: (lastId, signal) => {
        const headers = {
          Accept: 'text/event-stream',
          ...(lastId === '' ? {} : { 'Last-Event-ID': lastId }),
        };
        return fetchRaw('/v1/overview/stream', { headers, signal });
      },
      onEvent: (event) => {
        if (event.event === 'overview') queries.setQueryData(key, JSON.parse(event.data) as Overview);
      },
      poll: async () => {
        await queries.invalidateQueries({ queryKey: key });
        return false;
      },
    });
    return () => stop.abort();
  }, [address, queries]);
  return useQuery({
    queryKey: ['overview', address],
    queryFn: () => ask(client.GET('/v1/overview')),
    refetchInterval: 20_000,
  });
}
