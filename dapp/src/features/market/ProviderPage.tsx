import { useQuery } from '@tanstack/react-query';
import { useParams } from '@tanstack/react-router';
import { Asked } from '~/components/asking';
import { Card, Empty, Figure, Page, TableCard, Tag } from '~/components/parts';
import { Amount, Hex, Moment, shortHex } from '~/components/values';
import { ask, client, type Schemas } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { CardTable } from './CardTable';

export function ProviderPage() {
  const t = useT();
  const { address } = useParams({ from: '/providers/$address' });
  const provider = useQuery({
    queryKey: ['provider', address],
    queryFn: () => ask(client.GET('/v1/providers/{address}', { params: { path: { address } } })),
    refetchInterval: 5_000,
  });
  return (
    <Page title={t('provider.title', { address: shortHex(address) })} lead={t('provider.lead')}>
      <Asked query={provider}>{(found) => <Provider provider={found} />}</Asked>
    </Page>
  );
}

function Provider({ provider }: { provider: Schemas['ProviderBody'] }) {
  const t = useT();
  return (
    <>
      <dl className="figures">
        <Figure name={t('provider.stake')} note={t('provider.stakeNote')}>
          <Amount units={BigInt(provider.stake)} />
        </Figure>
        <Figure name={t('provider.unbonding')}>
          <Amount units={BigInt(provider.unbonding)} />
        </Figure>
        <Figure name={t('provider.gpus')}>{provider.gpus_registered}</Figure>
        <Figure name={t('provider.settled')}>{provider.tasks_settled}</Figure>
      </dl>
      <Card title={t('provider.who')}>
        <dl className="facts">
          <dt>{t('account.address')}</dt>
          <dd>
            <Hex value={provider.address} />
          </dd>
          <dt>{t('state')}</dt>
          <dd>
            <Tag tone={provider.online ? 'good' : 'plain'}>
              {provider.online
                ? provider.draining
                  ? t('state.draining')
                  : t('state.online')
                : t('state.offline')}
            </Tag>
          </dd>
          <dt>{t('provider.seen')}</dt>
          <dd>{provider.last_seen_ms === null ? t('none') : <Moment ms={provider.last_seen_ms} />}</dd>
          <dt>{t('provider.runtime')}</dt>
          <dd>
            {provider.runtime ?? t('none')}
            {provider.runtime === 'process' ? ` – ${t('provider.processNote')}` : ''}
          </dd>
          <dt>{t('provider.keys')}</dt>
          <dd className="stack-s">
            {provider.operator_keys.map((key) => (
              <Hex key={key} value={key} />
            ))}
          </dd>
        </dl>
      </Card>
      <TableCard title={t('provider.cards')}>
        {provider.gpus.length === 0 ? (
          <Empty title={t('provider.noCards')}>{t('provider.noCardsText')}</Empty>
        ) : (
          <CardTable gpus={provider.gpus} rates={provider.rate_per_gpu_second} />
        )}
      </TableCard>
    </>
  );
}
