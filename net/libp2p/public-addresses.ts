/**
 * Announces the public listen addresses. Written for libp2p 3.3.11. Since libp2p/js-libp2p#2867, libp2p does not
 * announce a public address before AutoNAT confirms it. AutoNAT v2 needs four verifiers in different networks, which
 * small swarms do not have. If libp2p had a setting to trust the addresses of this machine's interfaces, this file
 * would not be needed.
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
 * Returns a libp2p service that confirms the addresses of each new listener. For a wildcard address these are the
 * addresses of all interfaces. Other peers can dial a public address of this machine unless a firewall blocks it. If a
 * firewall blocks the address, the announcement costs each peer that dials it one failed attempt.
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
