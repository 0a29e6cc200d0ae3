/** What the process and its user bring: settings, and private copies of the native libraries that travel in jars. */
package org.sentei.platform;
