/** What backends share that is no part of their contract: settings, and private copies of native libraries. */
package org.sentei.backend;
