// For the publisher: how its workers started lately, and what the program wrote until it was ready. As text.

import { useQuery } from '@tanstack/react-query';
import { Asked } from '~/components/asking';
import { Card, Empty, Tag } from '~/components/parts';
import { Hex, Moment } from '~/components/values';
import { ask, client } from '~/lib/api';
import { useT } from '~/lib/i18n';
import { useSession } from '~/lib/session';
import { isMine, type App } from './queries';

export function Starts({ app }: { app: App }) {
  const t = useT();
  const session = useSession();
  const mine = isMine(app, session?.address ?? null);
  const starts = useQuery({
    queryKey: ['starts', app.id, session?.address],
    queryFn: () => ask(client.GET('/v1/apps/{app}/starts', { params: { path: { app: app.id } } })),
    enabled: mine,
    refetchInterval: 5_000,
  });
  if (!mine) return null;
  return (
    <Card title={t('starts.title')}>
      <p className="small soft">{t('starts.text')}</p>
      <Asked query={starts}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title={t('starts.none')}>{t('starts.noneText')}</Empty>
          ) : (
            <ul className="stack">
              {items.map((start) => (
                <li key={`${start.provider}-${start.at_ms.toString()}`} className="stack-s">
                  <div className="row">
                    <Tag tone={start.ready ? 'good' : 'bad'}>
                      {start.ready ? t('starts.ready') : t('starts.failed')}
                    </Tag>
                    <Moment ms={start.at_ms} />
                    <span className="soft">
                      {t('app.version')} {start.version}
                    </span>
                    <Hex value={start.provider} />
                  </div>
                  {start.why === '' ? null : <p className="small">{start.why}</p>}
                  {start.text === '' ? (
                    <p className="small soft">{t('starts.silent')}</p>
                  ) : (
                    <pre className="code" tabIndex={0}>
                      {start.text}
                    </pre>
                  )}
                </li>
              ))}
            </ul>
          )
        }
      </Asked>
    </Card>
  );
}
