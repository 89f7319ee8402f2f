<?php
// Managed by socle. DokuWiki reads it before everything else, and the protected settings after its own
// local.php, which belongs to its settings page.
define( 'DOKU_CONF', {{ data ~ "/conf/" }} );
$config_cascade['main'] = array(
	'default'   => array( DOKU_CONF . 'dokuwiki.php' ),
	'local'     => array( DOKU_CONF . 'local.php' ),
	'protected' => array( {{ config ~ "/protected.php" }} ),
);
