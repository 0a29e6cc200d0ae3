/** JMH's part of {@code sentei bench}; compiled apart from the library, which must not depend on JMH. */
package org.sentei.bench.jmh;
