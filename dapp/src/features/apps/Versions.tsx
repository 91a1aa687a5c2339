// What was published, at what price, and the way back: an older version is published again as the newest.

import { useQuery } from '@tanstack/react-query';
import type { Hex as HexText } from 'viem';
import { Asked } from '~/components/asking';
import { Table, TableCard, Tag } from '~/components/parts';
import { TransactionButton } from '~/components/transaction';
import { Hex, Moment } from '~/components/values';
import { ask, client, type Schemas } from '~/lib/api';
import { addAppVersion, type AppPrice } from '~/lib/chain/writes';
import { useDeployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { SECONDS_PER_HOUR } from '~/lib/money';
import { Part } from './AppsPage';
import { isMine, type App } from './queries';
import { useWallet } from '~/lib/wallet/useWallet';

export function useHistory(app: App) {
  return useQuery({
    queryKey: ['versions', app.id, app.versions],
    queryFn: async () => {
      const path = { app: app.id };
      const query = { limit: 200 };
      const [listed, prices, discounts] = await Promise.all([
        ask(client.GET('/v1/apps/{app}/versions', { params: { path, query } })),
        ask(client.GET('/v1/apps/{app}/prices', { params: { path, query } })),
        ask(client.GET('/v1/apps/{app}/discounts', { params: { path, query } })),
      ]);
      return { versions: listed.items, prices: prices.items, discounts: discounts.items };
    },
  });
}

/** The one announced last for a version, before any discount. */
export function lastPrice(prices: readonly Schemas['PricePointBody'][], version: number): AppPrice | null {
  const found = prices.filter((point) => point.version === version).at(-1)?.price;
  if (found === undefined) return null;
  return {
    flat: BigInt(found.flat),
    feePerCall: BigInt(found.fee_per_call),
    ratePerGpuSecond: BigInt(found.rate_per_gpu_second),
  };
}

export function Versions({ app }: { app: App }) {
  const t = useT();
  const { address } = useWallet();
  const deployment = useDeployment().data;
  const history = useHistory(app);
  const canChange = isMine(app, address) && !app.permanent && app.retired_at === null;
  return (
    <Asked query={history}>
      {(found) => (
        <>
          <TableCard title={t('app.versions')}>
            <Table
              caption={t('app.versions')}
              rows={[...found.versions].reverse()}
              rowKey={(row) => row.version.toString()}
              columns={[
                {
                  key: 'version',
                  head: t('app.version'),
                  cell: (row) =>
                    row.version === app.versions ? (
                      <>
                        {row.version} <Tag tone="good">{t('app.latest')}</Tag>
                      </>
                    ) : (
                      row.version
                    ),
                },
                {
                  key: 'when',
                  head: t('apps.published'),
                  cell: (row) => <Moment ms={row.published_at * 1000} />,
                },
                { key: 'image', head: t('app.image'), cell: (row) => <Hex value={row.image_digest} /> },
                {
                  key: 'manifest',
                  head: t('app.manifest'),
                  cell: (row) => <Hex value={row.manifest_digest} />,
                },
                ...(canChange && deployment !== undefined && found.versions.length > 1
                  ? [
                      {
                        key: 'act',
                        head: t('app.goBack'),
                        cell: (row: Schemas['AppVersionBody']) => {
                          const price = lastPrice(found.prices, row.version);
                          return row.version === app.versions || price === null ? (
                            '–'
                          ) : (
                            <TransactionButton
                              tone="plain"
                              prepare={() =>
                                Promise.resolve(
                                  addAppVersion(
                                    deployment,
                                    app.id as HexText,
                                    {
                                      imageDigest: row.image_digest as HexText,
                                      manifestDigest: row.manifest_digest as HexText,
                                      manifestUri: row.manifest_uri,
                                    },
                                    price,
                                  ),
                                )
                              }
                            >
                              {t('app.goBackAct', { version: row.version })}
                            </TransactionButton>
                          );
                        },
                      },
                    ]
                  : []),
              ]}
            />
            {canChange && found.versions.length > 1 ? (
              <p className="small soft table-note">{t('app.goBackText')}</p>
            ) : null}
          </TableCard>
          <TableCard title={t('app.prices')}>
            <Table
              caption={t('app.prices')}
              rows={[...found.prices].reverse()}
              rowKey={(row) => `${row.version.toString()}-${row.takes_effect_at.toString()}`}
              columns={[
                { key: 'version', head: t('app.version'), cell: (row) => row.version },
                {
                  key: 'from',
                  head: t('app.from'),
                  cell: (row) => (
                    <>
                      <Moment ms={row.takes_effect_at * 1000} />{' '}
                      {row.takes_effect_at * 1000 > Date.now() ? (
                        <Tag tone="busy">{t('app.announced')}</Tag>
                      ) : null}
                    </>
                  ),
                },
                {
                  key: 'call',
                  head: t('market.perCall'),
                  number: true,
                  cell: (row) => <Part units={row.price.fee_per_call} />,
                },
                {
                  key: 'hour',
                  head: t('apps.gpuHour'),
                  number: true,
                  cell: (row) => <Part units={row.price.rate_per_gpu_second} times={SECONDS_PER_HOUR} />,
                },
                {
                  key: 'flat',
                  head: t('app.flat'),
                  number: true,
                  cell: (row) => <Part units={row.price.flat} />,
                },
              ]}
            />
          </TableCard>
          {found.discounts.length === 0 ? null : (
            <TableCard title={t('app.discounts')}>
              <Table
                caption={t('app.discounts')}
                rows={found.discounts}
                rowKey={(row) => `${row.start.toString()}-${row.bps.toString()}`}
                columns={[
                  {
                    key: 'bps',
                    head: t('app.off'),
                    number: true,
                    cell: (row) => `${(row.bps / 100).toString()} %`,
                  },
                  { key: 'start', head: t('app.from'), cell: (row) => <Moment ms={row.start * 1000} /> },
                  { key: 'end', head: t('app.until'), cell: (row) => <Moment ms={row.end * 1000} /> },
                ]}
              />
            </TableCard>
          )}
        </>
      )}
    </Asked>
  );
}
