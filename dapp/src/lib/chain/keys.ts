import { useCallback } from 'react';
import type { Address } from 'viem';
import { providerStakingAbi } from '~/generated/abi';
import { useDeployment } from '~/lib/deployment';
import { useSigner } from '~/lib/wallet/useWallet';

/** Asks the chain whose key signed; null without a wallet to ask it through. Retired keys stay answerable. */
export function useSignsFor() {
  const deployment = useDeployment().data;
  const signer = useSigner();
  return useCallback(
    async (key: Address, provider: Address): Promise<boolean | null> => {
      if (deployment === undefined || signer === null) return null;
      const staking = { address: deployment.staking, abi: providerStakingAbi } as const;
      return signer.reader.readContract({ ...staking, functionName: 'answersFor', args: [provider, key] });
    },
    [deployment, signer],
  );
}
