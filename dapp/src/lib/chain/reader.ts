import { useMemo } from 'react';
import { createPublicClient, http, type PublicClient } from 'viem';
import { useDeployment } from '~/lib/deployment';
import { useSigner } from '~/lib/wallet/useWallet';

/** Reads the chain through the wallet, else through the endpoint that the operator opened to browsers. */
export function useReader(): PublicClient | null {
  const signer = useSigner();
  const deployment = useDeployment().data;
  return useMemo(() => {
    if (signer !== null) return signer.reader;
    if (deployment?.rpcUrl == null) return null;
    return createPublicClient({ transport: http(deployment.rpcUrl) });
  }, [signer, deployment]);
}
