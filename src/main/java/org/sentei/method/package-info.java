/**
 * How weights are chosen for removal and what makes up for them: plain functions over ops and host statistics. Nothing
 * here knows files, recipes or which backend runs.
 */
package org.sentei.method;
