// What is kept between visits: how the page looks and which wallet was used. Nothing secret, ever.

type Name = 'language' | 'theme' | 'wallet';

export function readPreference(name: Name): string | null {
  try {
    // eslint-disable-next-line no-restricted-globals -- the one place that may
    return localStorage.getItem(`tallystick.${name}`);
  } catch {
    return null; // storage may be forbidden: then nothing is remembered
  }
}

export function writePreference(name: Name, value: string | null): void {
  try {
    // eslint-disable-next-line no-restricted-globals -- the one place that may
    if (value === null) localStorage.removeItem(`tallystick.${name}`);
    // eslint-disable-next-line no-restricted-globals -- the one place that may
    else localStorage.setItem(`tallystick.${name}`, value);
  } catch {
    return;
  }
}
