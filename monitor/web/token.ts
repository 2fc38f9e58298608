/** The daemon's API token. It arrives in the fragment of the address, which browsers never send to a server. */

const KEY = 'lora-swarm-token';

/** Takes the token out of the address bar and keeps it for this tab. Returns the token; null if there is none. */
export function takeToken(): string | null {
  const found = /^#token=([^&]+)(?:&(.*))?$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEY, decodeURIComponent(found[1]!));
    // The address without the token replaces the entry in the browser's history.
    history.replaceState(null, '', `${location.pathname}#${found[2] ?? '/'}`);
  }
  return sessionStorage.getItem(KEY);
}

/** Stores, for this tab only, a token that the user has typed. */
export function keepToken(token: string): void {
  sessionStorage.setItem(KEY, token.trim());
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEY);
}
