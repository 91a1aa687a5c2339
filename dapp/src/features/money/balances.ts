import { useQuery } from '@tanstack/react-query';
import { readBalances } from '~/lib/chain/permit';
import { useDeployment } from '~/lib/deployment';
import { useSigner } from '~/lib/wallet/useWallet';

/** From the chain itself, through the wallet: no backend has to be believed about money. */
export function useBalances() {
  const deployment = useDeployment().data;
  const signer = useSigner();
  return useQuery({
    queryKey: ['balances', signer?.address, deployment?.escrow],
    queryFn: () => {
      if (deployment === undefined || signer === null) throw new Error('no wallet');
      return readBalances(deployment, signer);
    },
    enabled: deployment !== undefined && signer !== null,
    refetchInterval: 4_000,
  });
}
