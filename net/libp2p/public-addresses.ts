/**
 * Announces the public listen addresses. Since libp2p/js-libp2p#2867 (here libp2p 3.3.11) libp2p holds a public address back
 * until AutoNAT confirms it. AutoNAT v2 needs four verifiers in different networks, which small swarms do not have. A
 * setting in libp2p to trust the addresses of its own interfaces would replace this file.
 */

import type { Listener, TypedEventTarget } from '@libp2p/interface';
import type { Multiaddr } from '@multiformats/multiaddr';

/** The components of a libp2p node that this service needs. */
interface Components {
  readonly events: TypedEventTarget<{ 'transport:listening': CustomEvent<Listener> }>;
  readonly addressManager: {
    confirmObservedAddr(address: Multiaddr, options: { type: 'transport' }): void;
  };
}

/**
 * A libp2p service that confirms the addresses of each new listener, those of the interfaces behind a wildcard included.
 * A public address on an interface of this machine can be dialled unless a firewall blocks it, so announcing it costs a
 * peer at most one failed dial.
 */
export function publicAddresses(): (components: Components) => object {
  return ({ events, addressManager }) => {
    events.addEventListener('transport:listening', ({ detail: listener }) => {
      for (const address of listener.getAddrs())
        addressManager.confirmObservedAddr(address, { type: 'transport' });
    });
    return {};
  };
}
