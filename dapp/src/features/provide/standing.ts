import { useQuery } from '@tanstack/react-query';
import { ask, client } from '~/lib/api';
import { readStanding } from '~/lib/chain/staking';
import { useDeployment } from '~/lib/deployment';
import { useSession } from '~/lib/session';
import { useSigner, useWallet } from '~/lib/wallet/useWallet';

export function useStanding() {
  const deployment = useDeployment().data;
  const signer = useSigner();
  return useQuery({
    queryKey: ['standing', signer?.address, deployment?.staking],
    queryFn: () => {
      if (deployment === undefined || signer === null) throw new Error('no wallet');
      return readStanding(deployment, signer.reader, signer.address);
    },
    enabled: deployment !== undefined && signer !== null,
    refetchInterval: 4_000,
  });
}

/** What one's own agent says; asked for with a log-in alone. */
export function useServing() {
  const { address } = useWallet();
  const session = useSession();
  return useQuery({
    queryKey: ['serving', address],
    queryFn: () => ask(client.GET('/v1/serving')),
    enabled: session !== null,
    refetchInterval: 3_000,
  });
}
