import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { NeedsWallet } from '~/app/gates';
import { Asked } from '~/components/asking';
import { Card, Empty, Figure, Note, TableCard, Tag } from '~/components/parts';
import { Amount, Copy } from '~/components/values';
import { CardTable } from '~/features/market/CardTable';
import { ApiProblem, ask, client, type Schemas } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { SECONDS_PER_HOUR } from '~/lib/money';
import { useWallet } from '~/lib/wallet/useWallet';
import { ProvideFrame } from './frame';

export function GpusPage() {
  const t = useT();
  return (
    <ProvideFrame title={t('provide.gpusTitle')} lead={t('provide.gpusLead')}>
      <NeedsWallet why={t('provide.gpusWhy')}>
        <Gpus />
      </NeedsWallet>
    </ProvideFrame>
  );
}

/** Null for an account that never staked. */
export function useMyProvider() {
  const { address } = useWallet();
  return useQuery({
    queryKey: ['myProvider', address],
    queryFn: async () => {
      if (address === null) throw new Error('no wallet');
      try {
        return await ask(client.GET('/v1/providers/{address}/summary', { params: { path: { address } } }));
      } catch (fault) {
        if (fault instanceof ApiProblem && fault.status === 404) return null;
        throw fault;
      }
    },
    enabled: address !== null,
    refetchInterval: 4_000,
  });
}

export function NotYetAProvider() {
  const t = useT();
  return (
    <section className="card">
      <Empty
        title={t('provide.none')}
        action={
          <Link to="/provide" className="button button-main">
            {t('provide.noneAct')}
          </Link>
        }
      >
        {t('provide.noneText')}
      </Empty>
    </section>
  );
}

function Gpus() {
  const mine = useMyProvider();
  return (
    <Asked query={mine}>
      {(found) => (found === null ? <NotYetAProvider /> : <Cards provider={found.provider} />)}
    </Asked>
  );
}

function Cards({ provider }: { provider: Schemas['ProviderBody'] }) {
  const t = useT();
  const announced = provider.gpus.length;
  const rates = Object.entries(provider.rate_per_gpu_second).filter(([name]) => name !== '');
  const change = 'TALLYSTICK_PROVIDER_RATE=gpu1=138888888888888';
  return (
    <>
      <dl className="figures">
        <Figure name={t('state')}>
          <Tag tone={provider.online ? (provider.draining ? 'busy' : 'good') : 'plain'}>
            {provider.online
              ? provider.draining
                ? t('state.draining')
                : t('state.online')
              : t('state.offline')}
          </Tag>
        </Figure>
        <Figure name={t('provider.gpus')} note={t('gpus.registeredNote')}>
          {provider.gpus_registered}
        </Figure>
        <Figure name={t('gpus.announced')} note={t('gpus.announcedNote')}>
          {announced}
        </Figure>
        {rates.map(([name, rate]) => (
          <Figure key={name} name={t('gpus.price', { name })} note={t('market.perGpuHour')}>
            <Amount price units={BigInt(rate) * SECONDS_PER_HOUR} />
          </Figure>
        ))}
      </dl>
      {announced > provider.gpus_registered ? (
        <Note tone="warn">
          {t('gpus.moreAnnounced', { announced, registered: provider.gpus_registered })}{' '}
          <Link to="/provide">{t('provide.start')}</Link>
        </Note>
      ) : null}
      {provider.runtime === 'process' ? <Note tone="warn">{t('join.processText')}</Note> : null}
      <TableCard title={t('provider.cards')}>
        {announced === 0 ? (
          <Empty
            title={t('provider.noCards')}
            action={
              <Link to="/provide" className="button">
                {t('provide.start')}
              </Link>
            }
          >
            {t('gpus.noneText')}
          </Empty>
        ) : (
          <CardTable gpus={provider.gpus} rates={provider.rate_per_gpu_second} />
        )}
      </TableCard>
      <Card title={t('gpus.change')}>
        <p className="soft">{t('gpus.changeText')}</p>
        <div className="row-between">
          <code className="code code-wrap">{change}</code>
          <Copy text={change} what={t('gpus.change')} />
        </div>
        <p className="small soft">{t('gpus.changeNote')}</p>
      </Card>
    </>
  );
}
