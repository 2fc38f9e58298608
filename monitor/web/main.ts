/** The page of a daemon. The fragment of its address names the view, for example `#/jobs/moby/peers`. */
import { html, render } from 'htm/preact';
import { useEffect, useState } from 'preact/hooks';
import type { CoordinatorStatus } from '../../protocol/api/coordinator.ts';
import type { NodeStatus } from '../../protocol/api/node.ts';
import { usePolled } from './live.ts';
import { Failure, Loading } from './parts/notice.ts';
import { keepToken, takeToken } from './token.ts';
import { JobView } from './views/job.ts';
import { LaunchView } from './views/launch.ts';
import { NodeView } from './views/node.ts';
import { OverviewView } from './views/overview.ts';
import { PeerView } from './views/peer.ts';
import { RulesView } from './views/rules.ts';

type Status = CoordinatorStatus | NodeStatus;

function App() {
  const [token, setToken] = useState(takeToken());
  const path = usePath();
  if (token === null) return html`<${SignIn} onToken=${setToken} />`;
  return html`<${Shell} path=${path} onRefused=${() => setToken(null)} />`;
}

function Shell({ path, onRefused }: { path: readonly string[]; onRefused: () => void }) {
  const { data, error, refresh } = usePolled<Status>('/v1/status');
  const isRefused = error?.code === 'UNAUTHORISED';
  useEffect(() => {
    if (isRefused) onRefused();
  }, [isRefused, onRefused]);
  useEffect(() => {
    document.title = [...path.slice(0, 2).reverse(), 'lora-swarm'].join(' · ');
    document.getElementById('main')?.focus({ preventScroll: true });
  }, [path]);
  const isCoordinator = data?.role === 'coordinator';
  const isAt = (name: string | undefined) => (path[0] === name ? 'page' : undefined);
  return html`<a class="skip" href="#main" onClick=${skipToMain}>Skip to the content</a>
    <header>
      <strong>lora-swarm</strong>
      <nav aria-label="Views">
        <a href="#/" aria-current=${isAt(undefined)}>${isCoordinator || data === null ? 'Jobs' : 'This machine'}</a>
        ${isCoordinator && html`<a href="#/new" aria-current=${isAt('new')}>New job</a>`}
        <a href="#/health" aria-current=${isAt('health')}>Health rules</a>
      </nav>
      ${data !== null && html`<span class="quiet">${data.role} ${data.version}</span>`}
    </header>
    <main id="main" tabindex="-1">
      <${Failure} error=${isRefused ? null : error} />
      ${data === null ? html`<${Loading} what="the status" />` : viewOf(path, data, refresh)}
    </main>`;
}

function viewOf(path: readonly string[], status: Status, refresh: () => void) {
  const [place, name, part] = path;
  if (place === 'health') return html`<${RulesView} />`;
  if (status.role === 'node') return html`<${NodeView} status=${status} onChange=${refresh} />`;
  if (place === 'new') return html`<${LaunchView} jobs=${status.jobs} />`;
  if (place === 'peers' && name) return html`<${PeerView} peer=${name} />`;
  if (place === 'jobs' && name)
    return html`<${JobView} job=${name} part=${part ?? ''} onChange=${refresh} />`;
  return html`<${OverviewView} status=${status} />`;
}

/** Moves the focus without changing the fragment of the address, because the fragment names the view that is shown. */
function skipToMain(event: Event): void {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

function SignIn({ onToken }: { onToken: (token: string) => void }) {
  const [text, setText] = useState('');
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    keepToken(text);
    onToken(text.trim());
  };
  return html`<main id="main" class="narrow">
    <h1>lora-swarm</h1>
    <p>
      This page needs the token of the daemon. The command <code>lora-swarm open</code> opens the page with the token, and${' '}
      <code>lora-swarm open --print</code> prints the address with the token.
    </p>
    <form onSubmit=${submit}>
      <label
        >Token, from the file <code>api-token</code> in the daemon's home
        <input
          type="password"
          autocomplete="off"
          required
          value=${text}
          onInput=${(event: InputEvent) => setText((event.target as HTMLInputElement).value)}
      /></label>
      <div class="buttons"><button type="submit" class="main">Open</button></div>
    </form>
  </main>`;
}

/** Returns the parts of the view's path, and renders again when it changes. */
function usePath(): readonly string[] {
  const [path, setPath] = useState(readPath);
  useEffect(() => {
    const changed = (): void => {
      takeToken();
      setPath(readPath());
    };
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return path;
}

function readPath(): readonly string[] {
  return location.hash
    .slice(2)
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
}

render(html`<${App} />`, document.body);
