/** What the process and its user bring: settings, system properties, private copies of the native libraries in jars. */
package org.sentei.platform;
