// One transaction, read from the chain itself: the backend is not asked.

import { useQuery } from '@tanstack/react-query';
import { useParams } from '@tanstack/react-router';
import { decodeFunctionData, formatGwei, type Hash } from 'viem';
import { Asked } from '~/components/asking';
import { Card, Empty, Note, Page, Tag } from '~/components/parts';
import { Hex, shortHex } from '~/components/values';
import * as abis from '~/generated/abi';
import { useReader } from '~/lib/chain/reader';
import { useT } from '~/lib/i18n';

export function TransactionPage() {
  const t = useT();
  const { hash } = useParams({ from: '/explorer/tx/$hash' });
  const reader = useReader();
  const found = useQuery({
    queryKey: ['transaction', hash, reader === null],
    queryFn: async () => {
      if (reader === null) return null;
      const [transaction, receipt] = await Promise.all([
        reader.getTransaction({ hash: hash as Hash }),
        reader.getTransactionReceipt({ hash: hash as Hash }).catch(() => null),
      ]);
      return { transaction, receipt, call: callOf(transaction.input) };
    },
    refetchInterval: (query) => (query.state.data?.receipt == null ? 2_000 : false),
    retry: 1,
  });
  return (
    <Page title={t('txPage.title', { hash: shortHex(hash) })} lead={<Hex value={hash} />}>
      {reader === null ? (
        <section className="card">
          <Empty title={t('txPage.noChain')}>{t('txPage.noChainText')}</Empty>
        </section>
      ) : found.isError ? (
        <Note tone="warn">{t('txPage.none')}</Note>
      ) : (
        <Asked query={found}>
          {(data) =>
            data === null ? null : (
              <Card title={t('txPage.what')}>
                <dl className="facts">
                  <dt>{t('state')}</dt>
                  <dd>
                    {data.receipt === null ? (
                      <Tag tone="busy">{t('txPage.waiting')}</Tag>
                    ) : data.receipt.status === 'success' ? (
                      <Tag tone="good">{t('txPage.good')}</Tag>
                    ) : (
                      <Tag tone="bad">{t('txPage.bad')}</Tag>
                    )}
                  </dd>
                  <dt>{t('txPage.call')}</dt>
                  <dd className="mono">{data.call ?? data.transaction.input.slice(0, 10)}</dd>
                  <dt>{t('txPage.from')}</dt>
                  <dd>
                    <Hex value={data.transaction.from} />
                  </dd>
                  <dt>{t('txPage.to')}</dt>
                  <dd>{data.transaction.to === null ? t('none') : <Hex value={data.transaction.to} />}</dd>
                  <dt>{t('txPage.block')}</dt>
                  <dd className="number">{data.receipt?.blockNumber.toString() ?? '–'}</dd>
                  <dt>{t('txPage.gas')}</dt>
                  <dd className="number">
                    {data.receipt === null
                      ? '–'
                      : `${data.receipt.gasUsed.toLocaleString('en')} × ${formatGwei(data.receipt.effectiveGasPrice)} gwei`}
                  </dd>
                  <dt>{t('txPage.events')}</dt>
                  <dd className="number">{data.receipt?.logs.length ?? '–'}</dd>
                </dl>
              </Card>
            )
          }
        </Asked>
      )}
    </Page>
  );
}

function callOf(input: `0x${string}`): string | null {
  for (const abi of Object.values(abis)) {
    try {
      return decodeFunctionData({ abi, data: input }).functionName;
    } catch {
      continue;
    }
  }
  return null;
}
