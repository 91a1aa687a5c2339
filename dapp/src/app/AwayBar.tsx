import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { noteAnswer, useAway } from '~/lib/away';
import { useT } from '~/lib/i18n';

const ASKED_EVERY_MS = 1_500;

/** Says that the backend is away, asks until it is back, and has every page read anew then. */
export function AwayBar() {
  const t = useT();
  const away = useAway();
  const queries = useQueryClient();
  useEffect(() => {
    if (!away) return;
    const timer = setInterval(() => {
      fetch('/readyz')
        .then(async (answer) => {
          if (!answer.ok) return;
          noteAnswer(true);
          await queries.invalidateQueries();
        })
        .catch(() => undefined);
    }, ASKED_EVERY_MS);
    return () => clearInterval(timer);
  }, [away, queries]);
  return (
    <div role="status">{away ? <div className="note note-warn away-bar">{t('away.bar')}</div> : null}</div>
  );
}
