import { useQuery } from '@tanstack/react-query';
import { useBalances } from '~/features/money/balances';
import { ask, client } from '~/lib/api';
import { useWallet } from '~/lib/wallet/useWallet';

export interface Way {
  connected: boolean;
  deposited: boolean;
  ran: boolean;
}

/** How far somebody came on the way in, by what the chain says of the account: also without a log-in. */
export function useWay(): Way | null {
  const { address } = useWallet();
  const balances = useBalances().data;
  const acts = useQuery({
    queryKey: ['way', address],
    queryFn: async () => {
      const of = async (kind: 'task' | 'channel' | 'money') => {
        const query = { kind, address: address ?? '', limit: 1 };
        const page = await ask(client.GET('/v1/explorer/events', { params: { query } }));
        return page.items.length > 0;
      };
      const [task, channel, money] = await Promise.all([of('task'), of('channel'), of('money')]);
      return { ran: task || channel, paid: money };
    },
    enabled: address !== null,
    refetchInterval: 10_000,
  }).data;
  if (address === null) return { connected: false, deposited: false, ran: false };
  if (acts === undefined) return null;
  const holds = balances !== undefined && balances.available + balances.locked > 0n;
  return { connected: true, deposited: holds || acts.paid || acts.ran, ran: acts.ran };
}
