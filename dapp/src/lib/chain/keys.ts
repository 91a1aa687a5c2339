import { useCallback } from 'react';
import type { Address } from 'viem';
import { providerStakingAbi } from '~/generated/abi';
import { useDeployment } from '~/lib/deployment';
import { useReader } from './reader';

/** Asks the chain whose key signed; null where nobody can be asked. Retired keys stay answerable. */
export function useSignsFor() {
  const deployment = useDeployment().data;
  const reader = useReader();
  return useCallback(
    async (key: Address, provider: Address): Promise<boolean | null> => {
      if (deployment === undefined || reader === null) return null;
      const staking = { address: deployment.staking, abi: providerStakingAbi } as const;
      return reader.readContract({ ...staking, functionName: 'answersFor', args: [provider, key] });
    },
    [deployment, reader],
  );
}
